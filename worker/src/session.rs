//! One registration of a worker: it starts the tasks that belong together, watches them, and ends them together. A worker that
//! was given up, or one of whose tasks has ended, begins a new session, under a new id.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use futures::FutureExt;
use longhaul_schema::{
    Database, Error,
    calls::{NewWorker, Registered},
    retry::Backoff,
};
use tokio::sync::{Notify, mpsc};

use crate::{
    Registry,
    builder::Settings,
    closing, completer,
    debounce::{DebounceSettings, DebouncedWriter},
    durable::saver,
    engine::{End, Engine, Session},
    heartbeat::Heartbeat,
    lease_clock::{LeaseClock, Moment},
    report::{self, FigureSink, ProgressSink, ProgressWriter},
    tasks::Tasks,
    wakeup,
};

/// What a worker did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Round trips to the queues.
    pub claims: u64,
    /// Steps claimed.
    pub claimed: u64,
    /// Outcomes stored.
    pub settled: u64,
    /// Steps lost to other workers.
    pub lost: u64,
    /// Steps that were stopped because their runs had ended.
    pub cancelled: u64,
    /// It ended because somebody drained it (`drain_worker`), and not because it was told to stop.
    pub drained: bool,
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.claims += other.claims;
        self.claimed += other.claimed;
        self.settled += other.settled;
        self.lost += other.lost;
        self.cancelled += other.cancelled;
        self.drained |= other.drained;
    }
}

/// Events that wait for the engine.
const EVENTS: usize = 256;

/// A worker whose tasks end so often in a row, each time within this time, is beyond help.
const BREAKS: (u32, Duration) = (5, Duration::from_secs(120));

pub(crate) async fn run(
    database: Database,
    registry: Arc<Registry>,
    mut settings: Settings,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error> {
    tokio::pin!(stop);
    let mut summary = Summary::default();
    let (mut breaks, mut backoff) = (0, Backoff::default());
    loop {
        let (registered, sent) = tokio::select! {
            registered = register(&database, &registry, &mut settings) => registered?,
            () = stop.as_mut() => return Ok(summary),
        };
        let worker = registered.worker;
        tracing::info!(worker, name = settings.name, queues = ?settings.queues, "registered");
        let began = Instant::now();

        let mut tasks = Tasks::default();
        let (engine, progress, events) = begin(&database, &registry, &settings, registered, sent, &mut tasks)?;
        let mut reason = String::new();
        let (end, part) = engine.run(events, stop.as_mut(), async { reason = tasks.ended().await }).await;
        summary.add(part);
        if !reason.is_empty() {
            tracing::error!(worker, reason, "a task of the worker has ended; its steps go back");
        }
        if end == End::Stopped {
            // Before the tasks end: one of them writes progress.
            closing::leave_in_good_order(&database, worker, &progress, &settings).await;
            return Ok(summary);
        }
        // What a lost worker still has must not be written: its leases are others' now.
        drop(tasks);
        if end == End::Broken {
            closing::leave(&database, worker, &AtomicBool::new(false)).await;
            if began.elapsed() >= BREAKS.1 {
                (breaks, backoff) = (0, Backoff::default());
            }
            breaks += 1;
            if breaks >= BREAKS.0 {
                return Err(Error::Corrupt(format!("the worker broke down {breaks} times in a row: {reason}")));
            }
            tokio::select! {
                () = backoff.wait() => {}
                () = stop.as_mut() => return Ok(summary),
            }
        }
    }
}

type Begun = (Engine, ProgressWriter, mpsc::Receiver<crate::engine::Event>);

/// Starts everything that a registration needs, beside its engine.
fn begin(
    database: &Database,
    registry: &Arc<Registry>,
    settings: &Settings,
    registered: Registered,
    sent: Moment,
    tasks: &mut Tasks,
) -> Result<Begun, Error> {
    let worker = registered.worker;
    let lease = LeaseClock::new(settings.lease, sent);
    let (outcomes, outcomes_out) = mpsc::channel(most_slots(settings).max(completer::MAX_BATCH));
    let (saver, saves) = mpsc::channel(completer::MAX_BATCH);
    let (events, events_out) = mpsc::channel(EVENTS);
    let at_once = Arc::new(Notify::new());

    let heartbeat = Heartbeat {
        config: database.config().clone(),
        worker,
        interval: settings.heartbeat,
        lease: settings.lease,
        clock: lease.clone(),
        at_once: at_once.clone(),
        events: events.clone(),
    };
    tasks.own_thread("longhaul-heart", move || heartbeat.run())?;
    let observed = settings.observed.clone();
    tasks.spawn("completer", completer::run(database.clone(), worker, outcomes_out, events.clone(), observed));
    tasks.spawn("saver of checkpoints", saver::run(database.clone(), worker, saves));
    let listening = wakeup::run(database.clone(), registered.channel, at_once.clone(), events);
    tasks.spawn("listener", listening.map(Ok));

    let debounce = DebounceSettings { interval: settings.flush, ..DebounceSettings::default() };
    let (progress, writing) = DebouncedWriter::with_task(ProgressSink::new(database.clone()), debounce);
    tasks.spawn("writer of progress", writing.map(Ok));
    let (figures, writing) = DebouncedWriter::with_task(FigureSink::new(database.clone(), worker), debounce);
    tasks.spawn("writer of figures", writing.map(Ok));
    let reporting = report::figures(figures, settings.observed.status.subscribe(), settings.flush);
    tasks.spawn("reporter of figures", reporting.map(Ok));

    let session = Session { outcomes, saver, progress: progress.clone(), lease, beat: at_once };
    let engine = Engine::new(database.clone(), worker, registry.clone(), settings.clone(), session);
    Ok((engine, progress, events_out))
}

/// Registers, waiting for the database as long as it takes. Returns when that was sent, as well.
async fn register(
    database: &Database,
    registry: &Registry,
    settings: &mut Settings,
) -> Result<(Registered, Moment), Error> {
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
            let sent = Moment::now();
            Ok::<_, Error>((limits, (calls.register_worker(&worker).await?, sent)))
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

/// Most steps that can run at once.
fn most_slots(settings: &Settings) -> usize {
    settings.queues.iter().map(|(_, slots)| slots.ceiling).sum()
}
