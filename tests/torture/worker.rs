//! What a worker process is.

use std::{path::Path, time::Duration};

use longhaul::{Config, Database, StepContext, StepError, Worker, WorkerBuilder, shutdown_signal};
use serde::de::DeserializeOwned;

use crate::{
    clock,
    handlers::{Hands, Made},
};

/// How long a lease lives: short, so that many expire in a run.
pub const LEASE: Duration = Duration::from_millis(1500);

pub async fn run(record: &Path, tenant: &str) {
    clock::falsify();
    // RUST_LOG=longhaul=debug tells what workers think.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()))
        .with_writer(std::io::stderr)
        .init();
    let mut config = Config::from_env().and_then(|config| config.tenant(tenant)).expect("DATABASE_URL");
    // An answer that is lost is given up soon: much is to happen in a run.
    config.call_timeout = Duration::from_secs(3);
    config.pool_wait = Duration::from_secs(3);
    let hands = Hands::new(record, Database::new(&config).expect("the configuration")).expect("the record");
    let worker = Worker::builder(&config).queue("default", 40).queue("narrow", 20);
    let worker = with(worker, "work", &hands, Hands::work);
    let worker = with(worker, "doom", &hands, Hands::doom);
    let worker = with(worker, "undo", &hands, Hands::undo);
    let worker = with(worker, "guarded", &hands, Hands::guarded);
    let worker = with(worker, "journey", &hands, Hands::journey);
    let worker = worker
        .heartbeat(LEASE / 5)
        .lease(LEASE)
        .poll(Duration::from_millis(200))
        .grace(Duration::from_millis(300))
        .build();
    worker.expect("worker").run_until(shutdown_signal()).await.expect("the worker");
}

/// Adds a handler.
fn with<I, Fut>(
    builder: WorkerBuilder,
    name: &str,
    hands: &Hands,
    handler: impl Fn(Hands, StepContext, I) -> Fut + Copy + Send + Sync + 'static,
) -> WorkerBuilder
where
    I: DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<Made, StepError>> + Send + 'static,
{
    let hands = hands.clone();
    builder.handler(name, move |ctx, input: I| handler(hands.clone(), ctx, input))
}
