//! The state of a worker, owned by one task: slots, steps in flight, when to claim. Everything else reaches it by messages,
//! so there is no lock on the path of a step.

mod claiming;
mod in_flight;
mod unfinished;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use longhaul_schema::{
    Database,
    backoff::Backoff,
    calls::{AttemptKey, QueueFigure, StepKey},
};
use tokio::{
    sync::{Notify, mpsc},
    task::{Id, JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::unfinished::Unfinished;
use crate::{
    Registry, Summary,
    claim::{ClaimResult, Flows},
    cpu::CpuShare,
    event::Event,
    lease_clock::LeaseClock,
    outcome::Outcome,
    queue::Queue,
    replay::saver::Save,
    settings::Settings,
    sinks::ProgressWriter,
};

/// Why the engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop, and nothing is in flight.
    Stopped,
    /// The worker was given up; it may register again.
    Lost,
    /// A task that it needs has ended. Its leases are still its own.
    Broken,
}

/// Handing back begins a fifth of the grace before its end, and at most this long; so long it may take at least. Later the leases
/// expire by themselves.
const HAND_BACK: Duration = Duration::from_secs(5);

/// When the steps that still run are handed back, for a worker that is told to stop now.
fn handed_back_after(grace: Duration) -> Duration {
    grace - (grace / 5).min(HAND_BACK)
}

/// A step that this worker owns, until its outcome is stored.
#[derive(Debug)]
struct Owned {
    attempt: i32,
    cancel: CancellationToken,
    stage: Stage,
    queue: Option<usize>,
}

/// How far a step in flight has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Claimed ahead: no slot is free for it yet.
    Waiting,
    /// In this task.
    Running(Id),
    /// Its outcome is on its way to the database.
    Ended,
}

/// How the engine reaches the other tasks of its registration.
pub(crate) struct Links {
    pub(crate) outcomes: mpsc::Sender<Outcome>,
    pub(crate) saver: mpsc::Sender<Save>,
    pub(crate) progress: ProgressWriter,
    pub(crate) lease: LeaseClock,
    /// Asks for a heartbeat at once.
    pub(crate) beat: Arc<Notify>,
}

pub(crate) struct Engine {
    database: Database,
    worker: i64,
    registry: Arc<Registry>,
    settings: Settings,
    queues: Vec<Queue>,
    owned: HashMap<StepKey, Owned>,
    tasks: JoinSet<()>,
    /// Which attempt and which queue a task belongs to.
    task_of: HashMap<Id, (AttemptKey, usize)>,
    outcomes: mpsc::Sender<Outcome>,
    saver: mpsc::Sender<Save>,
    progress: ProgressWriter,
    /// Calls of the shutdown hook.
    hooks: JoinSet<()>,
    cpu: CpuShare,
    claiming: Option<JoinHandle<ClaimResult>>,
    /// With the claim while one is in flight.
    flows: Flows,
    /// The answer of a claim was lost: what it took must be found out before the next one.
    recover: bool,
    /// As `recover`, but the wait before asking is not over yet.
    claim_failed: bool,
    backoff: Backoff,
    poll_at: Instant,
    /// Claims in a row that found nothing, while notified of new work.
    idle_polls: u32,
    unfinished: Option<Unfinished>,
    lease: LeaseClock,
    /// Asks for a heartbeat at once.
    beat: Arc<Notify>,
    /// It claims no more, and ends when it has done what it has.
    draining: bool,
    /// Set when the worker was told to stop: until then steps may go on.
    deadline: Option<Instant>,
    handed_back: bool,
    summary: Summary,
}

impl Engine {
    pub(crate) fn new(
        database: Database,
        worker: i64,
        registry: Arc<Registry>,
        settings: Settings,
        links: Links,
    ) -> Self {
        let Links { outcomes, saver, progress, lease, beat } = links;
        let queues = settings.queues.iter().map(|(name, slots)| Queue::new(name, *slots)).collect();
        Self {
            database,
            worker,
            registry,
            settings,
            queues,
            owned: HashMap::new(),
            tasks: JoinSet::new(),
            task_of: HashMap::new(),
            outcomes,
            saver,
            progress,
            hooks: JoinSet::new(),
            cpu: CpuShare::default(),
            claiming: None,
            flows: Flows::default(),
            recover: false,
            claim_failed: false,
            backoff: Backoff::default(),
            poll_at: Instant::now(),
            idle_polls: 0,
            unfinished: None,
            lease,
            beat,
            draining: false,
            deadline: None,
            handed_back: false,
            summary: Summary::default(),
        }
    }

    /// Works until `stop` completes and nothing is in flight, until the worker is lost, or until something is `broken`.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        broken: impl Future<Output = ()>,
    ) -> (End, Summary) {
        let mut broken = std::pin::pin!(broken);
        loop {
            self.claim_if_due();
            self.publish();
            // What a claim takes whose answer nobody waits for goes back when the worker leaves.
            if !self.claims() && self.owned.is_empty() && self.hooks.is_empty() {
                return (End::Stopped, self.summary);
            }
            let timer = self.next_timer();
            tokio::select! {
                biased;
                () = stop.as_mut(), if self.deadline.is_none() => self.begin_stop(),
                () = broken.as_mut() => {
                    self.stop_handlers();
                    return (if self.claims() { End::Broken } else { End::Stopped }, self.summary);
                }
                Some(event) = events.recv() => if self.handle(event) { return (self.give_up(), self.summary) },
                result = finished(&mut self.claiming), if self.claiming.is_some() => {
                    self.claiming = None;
                    if self.take_claim(result) { return (self.give_up(), self.summary) }
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.task_ended(ended);
                    self.collect_ended();
                    self.fill_slots();
                }
                Some(_) = self.hooks.join_next(), if !self.hooks.is_empty() => {}
                () = tokio::time::sleep_until(timer.into()) => {
                    if self.deadline.is_none() {
                        self.release_waiting(false, "it was claimed ahead, and no slot came free for it");
                        self.look_everywhere();
                        self.recover |= std::mem::take(&mut self.claim_failed);
                        self.unfinished = self.unfinished.map(Unfinished::later);
                        self.poll_later();
                    } else if !self.handed_back {
                        self.hand_back("the worker shut down before the step was done");
                    } else {
                        tracing::warn!(steps = self.owned.len(), "stopping although the database did not take back all steps");
                        return (End::Stopped, self.summary);
                    }
                }
            }
        }
    }

    /// When to look at the queues again without being told, or when the patience at shutdown ends.
    fn next_timer(&self) -> Instant {
        match self.deadline {
            Some(deadline) if self.handed_back => deadline + HAND_BACK,
            Some(deadline) => deadline,
            None => self.queues.iter().filter_map(Queue::patience_ends).fold(self.poll_at, Instant::min),
        }
    }

    /// Writes down how it is doing, for whoever looks on.
    fn publish(&self) {
        self.settings.observed.status.send_modify(|status| {
            status.worker = self.worker;
            status.stopping = !self.claims();
            status.owned = self.owned.len();
            if status.queues.len() != self.queues.len() {
                status.queues = self.queues.iter().map(|q| (q.name.as_str().into(), QueueFigure::default())).collect();
            }
            for (queue, (_, figure)) in self.queues.iter().zip(&mut status.queues) {
                *figure = queue.figure();
            }
        });
    }

    // The end ----------------------------------------------------------------------------------------------------

    /// Whether it takes on anything more.
    fn claims(&self) -> bool {
        !self.draining && self.deadline.is_none()
    }

    /// Somebody has drained this worker. What it has it may finish, however long that takes.
    fn drain(&mut self) {
        if self.claims() {
            tracing::info!(
                worker = self.worker,
                running = self.tasks.len(),
                "drained: it claims no more, and ends when it has finished"
            );
            self.draining = true;
            self.summary.drained = true;
            self.release_waiting(true, "the worker was drained");
        }
    }

    fn begin_stop(&mut self) {
        tracing::info!(worker = self.worker, running = self.tasks.len(), grace = ?self.settings.grace, "stopping");
        self.deadline = Some(Instant::now() + handed_back_after(self.settings.grace));
        self.release_waiting(true, "the worker was shutting down");
        if let Some(hook) = &self.settings.at_shutdown {
            for key in self.owned.iter().map(|(step, owned)| AttemptKey { step: *step, attempt: owned.attempt }) {
                self.hooks.spawn((hook.0)(key));
            }
        }
        let (database, worker) = (self.database.clone(), self.worker);
        tokio::spawn(async move {
            // For operators to see, and against being woken; nothing depends on it.
            if let Ok(calls) = database.calls().await {
                let _ = calls.drain_worker(worker).await;
            }
        });
    }

    /// Stops all handlers and gives their steps back, with no attempt consumed.
    fn hand_back(&mut self, reason: &str) {
        self.handed_back = self.deadline.is_some();
        self.hooks.abort_all();
        self.release_waiting(true, reason);
        for (step, owned) in &self.owned {
            if matches!(owned.stage, Stage::Running(_)) {
                owned.cancel.cancel();
                self.send(Outcome::released(AttemptKey { step: *step, attempt: owned.attempt }, reason));
            }
        }
    }

    /// The worker's leases are gone: all handlers stop, and nothing is written.
    fn give_up(&mut self) -> End {
        self.stop_handlers();
        self.summary.lost += self.owned.len() as u64;
        // A worker that was told to stop has nothing to begin anew for.
        if self.claims() { End::Lost } else { End::Stopped }
    }

    fn stop_handlers(&self) {
        for owned in self.owned.values() {
            owned.cancel.cancel();
        }
    }
}

/// The result of the claim in flight.
async fn finished(claiming: &mut Option<JoinHandle<ClaimResult>>) -> Result<ClaimResult, JoinError> {
    match claiming {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}
