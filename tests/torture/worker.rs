//! What a worker process does.

use std::{path::Path, sync::Arc, time::Duration};

use longhaul::{Config, StepContext, StepError, Worker, shutdown_signal};
use serde::{Deserialize, Serialize};

use crate::record::{Recorder, What};

/// How long a lease lives: short, so that many expire in a run.
pub const LEASE: Duration = Duration::from_millis(1500);

/// A run's input: how its steps behave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Behaviour {
    /// How long a handler takes.
    pub ms: u64,
    /// One in so many first attempts fails; 0: none.
    pub fails: u32,
    /// One in so many first claims snoozes; 0: none.
    pub snoozes: u32,
    /// One in so many first attempts never returns; 0: none.
    pub hangs: u32,
    /// The key of its steps, and of the signal that its run waits for.
    pub key: u32,
    /// What its fan-out works on.
    pub items: Vec<Behaviour>,
}

/// A step's output: which attempt made it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    pub token: i32,
}

pub async fn run(record: &Path, tenant: &str) {
    // RUST_LOG=longhaul=debug tells what workers think.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()))
        .with_writer(std::io::stderr)
        .init();
    let mut config = Config::from_env().and_then(|config| config.tenant(tenant)).expect("DATABASE_URL");
    let recorder = Arc::new(Recorder::open(record).expect("the record"));
    let handler = move |ctx: StepContext, behaviour: Behaviour| {
        let recorder = recorder.clone();
        async move { work(&ctx, behaviour, &recorder).await }
    };
    // An answer that is lost is given up soon: much is to happen in a run.
    config.call_timeout = Duration::from_secs(3);
    config.pool_wait = Duration::from_secs(3);
    let worker = Worker::builder(&config)
        .handler("work", handler)
        .and_then(|builder| builder.queue("default", 20))
        .and_then(|builder| builder.queue("narrow", 20))
        .and_then(|builder| {
            builder
                .heartbeat(LEASE / 5)
                .lease(LEASE)
                .poll(Duration::from_millis(200))
                .grace(Duration::from_millis(300))
                .build()
        })
        .expect("worker");
    worker.run_until(shutdown_signal()).await.expect("the worker");
}

async fn work(ctx: &StepContext, behaviour: Behaviour, recorder: &Recorder) -> Result<Made, StepError> {
    let token = ctx.fencing_token();
    let seq: i32 = ctx.idempotency_key().rsplit('/').next().and_then(|seq| seq.parse().ok()).unwrap_or(-1);
    recorder.write(What::Begin, ctx.run_id(), seq, token)?;
    // Chance that is the same whenever the seed is: from the run's id.
    let chance = ctx.run_id().as_u128() as u32 ^ (seq as u32).wrapping_mul(0x9e37_79b9);
    let one_in = |n: u32| n > 0 && chance.is_multiple_of(n);
    if token == 1 && one_in(behaviour.snoozes) {
        return Err(StepError::snooze(Duration::from_millis(50)));
    }
    if ctx.attempt() == 1 && one_in(behaviour.fails) {
        return Err(StepError::retry("as the behaviour demands"));
    }
    if ctx.attempt() == 1 && one_in(behaviour.hangs) {
        return std::future::pending().await;
    }
    tokio::time::sleep(Duration::from_millis(behaviour.ms)).await;
    recorder.write(What::End, ctx.run_id(), seq, token)?;
    Ok(Made { token })
}
