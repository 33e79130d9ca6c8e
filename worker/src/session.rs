//! One registration of a worker: it starts the tasks that belong together and ends them together. A worker that was given
//! up begins a new session, under a new id.

use std::{sync::Arc, time::Duration};

use longhaul_schema::{
    Database, Error,
    calls::{NewWorker, Registered},
    retry::Backoff,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    Registry,
    builder::Settings,
    completer,
    debounce::{DebounceSettings, DebouncedWriter},
    durable::saver,
    engine::{End, Engine},
    heartbeat,
    report::{self, ProgressSink, ProgressWriter},
    wakeup,
};

/// What a worker did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Round trips to the queues.
    pub claims: u64,
    /// Steps claimed.
    pub claimed: u64,
    /// Outcomes stored.
    pub settled: u64,
    /// Steps lost to other workers.
    pub lost: u64,
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.claims += other.claims;
        self.claimed += other.claimed;
        self.settled += other.settled;
        self.lost += other.lost;
    }
}

/// Events that wait for the engine.
const EVENTS: usize = 256;

pub(crate) async fn run(
    database: Database,
    registry: Arc<Registry>,
    mut settings: Settings,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error> {
    tokio::pin!(stop);
    let mut summary = Summary::default();
    loop {
        let registered = tokio::select! {
            registered = register(&database, &registry, &mut settings) => registered?,
            () = stop.as_mut() => return Ok(summary),
        };
        let worker = registered.worker;
        tracing::info!(worker, name = settings.name, queues = ?settings.queues, "registered");

        let slots = most_slots(&settings);
        let (outcomes, outcomes_out) = mpsc::channel(slots.max(completer::MAX_BATCH));
        let (events, events_out) = mpsc::channel(EVENTS);
        let heartbeat_now = Arc::new(Notify::new());
        let completer = tokio::spawn(completer::run(
            database.clone(),
            worker,
            outcomes_out,
            events.clone(),
            settings.observed.outcomes.clone(),
        ));
        let mut helpers = JoinSet::new();
        helpers.spawn(heartbeat::run(
            database.clone(),
            worker,
            settings.heartbeat,
            settings.lease,
            heartbeat_now.clone(),
            events.clone(),
        ));
        helpers.spawn(wakeup::run(database.clone(), registered.channel, heartbeat_now, events));

        let (saver, saves) = mpsc::channel(completer::MAX_BATCH);
        helpers.spawn(saver::run(database.clone(), worker, saves));
        let debounce = DebounceSettings { interval: settings.flush, ..DebounceSettings::default() };
        let progress = DebouncedWriter::start(ProgressSink::new(database.clone()), debounce);
        helpers.spawn(report::figures(database.clone(), worker, settings.observed.status.subscribe(), settings.flush));
        let engine = Engine::new(
            database.clone(),
            worker,
            registry.clone(),
            settings.clone(),
            outcomes,
            saver,
            progress.clone(),
        );
        let (end, part) = engine.run(events_out, stop.as_mut()).await;
        summary.add(part);
        helpers.abort_all();
        match end {
            End::Stopped => {
                // All outcomes are stored, or the time for that is over.
                completer.abort();
                flush(&database, worker, &progress, &settings).await;
                leave(&database, worker).await;
                return Ok(summary);
            }
            // Its leases are others' now: what the completer still has must not be written.
            End::Lost => completer.abort(),
        }
    }
}

/// Registers, waiting for the database as long as it takes.
async fn register(database: &Database, registry: &Registry, settings: &mut Settings) -> Result<Registered, Error> {
    let queues: Vec<&str> = settings.queues.iter().map(|(name, _)| name.as_str()).collect();
    let handlers: Vec<&str> = registry.names().collect();
    let slots = most_slots(settings);
    let worker = NewWorker {
        tenant: database.tenant(),
        name: &settings.name,
        host: &settings.host,
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        version: env!("CARGO_PKG_VERSION"),
        queues: &queues,
        handlers: &handlers,
        slots: i32::try_from(slots).unwrap_or(i32::MAX),
        lease: settings.lease,
    };
    let mut backoff = Backoff::default();
    loop {
        let attempt = async {
            let calls = database.calls().await?;
            let limits = (calls.setting("max_payload_bytes").await?, calls.setting("max_history").await?);
            Ok::<_, Error>((limits, calls.register_worker(&worker).await?))
        };
        match attempt.await {
            Ok(((payload, history), registered)) => {
                settings.max_payload = usize::try_from(payload).unwrap_or(usize::MAX);
                settings.max_history = usize::try_from(history).unwrap_or(usize::MAX);
                return Ok(registered);
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for the database");
                backoff.wait().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Stores what handlers reported last and the last figures; patient, but not for ever.
async fn flush(database: &Database, worker: i64, progress: &ProgressWriter, settings: &Settings) {
    let figures: Vec<_> =
        settings.observed.status.borrow().queues.iter().map(|(name, figure)| (name.to_string(), *figure)).collect();
    let flush = async {
        progress.flush().await;
        database.calls().await?.save_figures(worker, &figures).await
    };
    if !matches!(tokio::time::timeout(Duration::from_secs(5), flush).await, Ok(Ok(()))) {
        tracing::warn!(worker, "the last figures could not be stored");
    }
}

/// Most steps that can run at once.
fn most_slots(settings: &Settings) -> usize {
    settings.queues.iter().map(|(_, slots)| slots.ceiling).sum()
}

async fn leave(database: &Database, worker: i64) {
    let deregister = async { database.calls().await?.deregister_worker(worker).await };
    match tokio::time::timeout(Duration::from_secs(5), deregister).await {
        Ok(Ok(0)) => tracing::info!(worker, "left"),
        Ok(Ok(steps)) => tracing::info!(worker, steps, "left; its steps went back to their queues"),
        Ok(Err(error)) => tracing::warn!(worker, %error, "left without notice; its leases will expire"),
        Err(_) => tracing::warn!(worker, "left without notice: the database did not answer; its leases will expire"),
    }
}
