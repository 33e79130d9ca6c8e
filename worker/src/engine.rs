//! The state of a worker, owned by one task: slots, steps in flight, when to claim. Everything else reaches it by messages,
//! so there is no lock on the path of a step.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use longhaul_schema::{
    Database, Error, Payload,
    calls::{AttemptKey, AttemptOutcome, Claimed, Ended, QueueFigure, StepKey},
    retry::Backoff,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Registry, StepContext, Summary,
    builder::Settings,
    claim::{Claim, ClaimResult, Flows, Wanted},
    context::{BranchPath, Inner},
    durable::{History, saver::Save},
    execute::{Outcome, execute},
    processor::ProcessorTime,
    queue::Queue,
    report::ProgressWriter,
};

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// There may be work.
    Wake,
    /// Notifications come again; some may have been missed, and the server may have forgotten the request for them.
    Reconnected,
    /// Which attempts does this worker own?
    ListOwned(oneshot::Sender<Vec<AttemptKey>>),
    /// These are no longer its own.
    LeasesLost(Vec<AttemptKey>),
    /// The database could not be asked for as long as a lease lives.
    LeaseOverdue,
    /// The database has given this worker up.
    WorkerLost,
    /// These outcomes are stored, but for the lost ones among them.
    Settled { keys: Vec<(AttemptKey, &'static str)>, lost: Vec<AttemptKey> },
}

/// Why the engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop, and nothing is in flight.
    Stopped,
    /// The worker was given up; it may register again.
    Lost,
}

/// How long handing back may take once the grace is over. Later the leases expire by themselves.
const HAND_BACK: Duration = Duration::from_secs(10);

/// A step that this worker owns, until its outcome is stored.
#[derive(Debug)]
struct Owned {
    attempt: i32,
    cancel: CancellationToken,
    /// The task of its handler; `None` once that has ended.
    task: Option<Id>,
    queue: Option<usize>,
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
    processor: ProcessorTime,
    claiming: Option<JoinHandle<ClaimResult>>,
    /// With the claim while one is in flight.
    flows: Flows,
    /// The answer of a claim was lost: what it took must be found out before the next one.
    recover: bool,
    /// As `recover`, but the wait before asking is not over yet.
    claim_failed: bool,
    backoff: Backoff,
    poll_at: Instant,
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
        outcomes: mpsc::Sender<Outcome>,
        saver: mpsc::Sender<Save>,
        progress: ProgressWriter,
    ) -> Self {
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
            processor: ProcessorTime::default(),
            claiming: None,
            flows: Flows::default(),
            recover: false,
            claim_failed: false,
            backoff: Backoff::default(),
            poll_at: Instant::now(),
            deadline: None,
            handed_back: false,
            summary: Summary::default(),
        }
    }

    /// Works until `stop` completes and nothing is in flight, or until the worker is lost.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> (End, Summary) {
        loop {
            self.claim_if_due();
            self.publish();
            if self.deadline.is_some() && self.owned.is_empty() && self.claiming.is_none() && self.hooks.is_empty() {
                return (End::Stopped, self.summary);
            }
            let timer = self.next_timer();
            tokio::select! {
                biased;
                () = stop.as_mut(), if self.deadline.is_none() => self.begin_stop(),
                Some(event) = events.recv() => if self.handle(event) { return (self.give_up(), self.summary) },
                result = finished(&mut self.claiming), if self.claiming.is_some() => {
                    self.claiming = None;
                    if self.take_claim(result) { return (self.give_up(), self.summary) }
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.task_ended(ended);
                    self.collect_ended();
                }
                Some(_) = self.hooks.join_next(), if !self.hooks.is_empty() => {}
                () = tokio::time::sleep_until(timer.into()) => {
                    if self.deadline.is_none() {
                        self.look_everywhere();
                        self.recover |= std::mem::take(&mut self.claim_failed);
                        self.poll_at = Instant::now() + self.settings.poll;
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
            None => self.poll_at,
        }
    }

    /// Writes down how it is doing, for whoever looks on.
    fn publish(&self) {
        self.settings.observed.status.send_modify(|status| {
            status.worker = self.worker;
            status.stopping = self.deadline.is_some();
            status.owned = self.owned.len();
            if status.queues.len() != self.queues.len() {
                status.queues = self.queues.iter().map(|q| (q.name.as_str().into(), QueueFigure::default())).collect();
            }
            for (queue, (_, figure)) in self.queues.iter().zip(&mut status.queues) {
                *figure = queue.figure();
            }
        });
    }

    // Claiming ---------------------------------------------------------------------------------------------------

    fn look_everywhere(&mut self) {
        for queue in &mut self.queues {
            queue.look = true;
        }
    }

    fn claim_if_due(&mut self) {
        if self.claiming.is_some() || self.claim_failed || self.deadline.is_some() {
            return;
        }
        let wanted: Vec<Wanted> = self.queues.iter().filter_map(Queue::wanted).collect();
        if wanted.is_empty() && !self.recover {
            return;
        }
        // Until the answer is there nothing more is to be asked, unless something happens meanwhile.
        for queue in &mut self.queues {
            if wanted.iter().any(|w| w.queue == queue.name) {
                queue.look = false;
            }
        }
        let claim = Claim {
            worker: self.worker,
            wanted,
            recover: self.recover.then(|| self.attempts().collect()),
            flows: std::mem::take(&mut self.flows),
        };
        self.summary.claims += 1;
        self.claiming = Some(tokio::spawn(claim.make(self.database.clone())));
    }

    /// Takes in what a claim brought. True when the worker is lost.
    fn take_claim(&mut self, result: Result<ClaimResult, JoinError>) -> bool {
        self.poll_at = Instant::now() + self.settings.poll;
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                // A defect; the flows that the task held will be read again.
                tracing::error!(%error, "a claim was aborted");
                self.claim_again_later();
                return false;
            }
        };
        self.flows = result.flows;
        let claimed = match result.outcome {
            Ok(claimed) => claimed,
            Err(Error::WorkerLost(reason)) => {
                tracing::warn!(worker = self.worker, reason, "this worker was given up; it starts anew");
                return true;
            }
            Err(error) => {
                if error.is_transient() {
                    tracing::debug!(%error, "claim failed");
                } else {
                    tracing::error!(%error, "claim failed");
                }
                self.claim_again_later();
                return false;
            }
        };
        self.backoff = Backoff::default();
        let busy = self.processor.busy();
        if result.recovered {
            self.recover = false;
            self.look_everywhere();
        } else {
            for wanted in &result.wanted {
                let got = claimed.iter().filter(|c| c.queue == wanted.queue).count();
                if let Some(queue) = self.queues.iter_mut().find(|q| q.name == wanted.queue) {
                    let woken = queue.look;
                    queue.claimed(wanted, got);
                    queue.claimed += got as i64;
                    queue.scale(wanted.slots, got, busy);
                    queue.look |= woken;
                }
            }
        }
        for step in claimed {
            self.start(step);
        }
        false
    }

    /// A claim failed, but may have been made all the same: after a while the database is asked what it took.
    fn claim_again_later(&mut self) {
        self.claim_failed = true;
        self.poll_at = Instant::now() + self.backoff.next_wait();
    }

    fn start(&mut self, claimed: Claimed) {
        let key = claimed.key;
        let queue = self.queues.iter().position(|q| q.name == claimed.queue);
        let step = self.flows.step_of(&claimed).cloned();
        let handler = step.as_ref().and_then(|step| self.registry.get(&step.handler)).cloned();
        let cancel = CancellationToken::new();
        self.summary.claimed += 1;
        self.owned.insert(key.step, Owned { attempt: key.attempt, cancel: cancel.clone(), task: None, queue });
        let (Some(queue), Some(step), Some(handler)) = (queue, step, handler) else {
            tracing::error!(%key, queue = claimed.queue, "claimed a step that this worker cannot do");
            return self.send(Outcome::released(key, "the worker does not know the step's handler"));
        };
        if self.deadline.is_some() {
            return self.send(Outcome::released(key, "the worker was shutting down"));
        }
        let inner = Inner {
            database: self.database.clone(),
            key,
            failures: claimed.failures,
            step,
            worker: self.worker,
            cancel,
            max_payload: self.settings.max_payload,
            max_history: self.settings.max_history,
            history: History::default(),
            waiting: Arc::default(),
            saver: self.saver.clone(),
            progress: self.progress.clone(),
            completed_in: false.into(),
        };
        let context = StepContext { inner: Arc::new(inner), branch: BranchPath::new(String::new()) };
        let policies = self.settings.policies.clone();
        let attempt = execute(context, handler, claimed.input, policies, self.outcomes.clone());
        let task = self.tasks.spawn(attempt).id();
        self.task_of.insert(task, (key, queue));
        if let Some(owned) = self.owned.get_mut(&key.step) {
            owned.task = Some(task);
        }
        self.queues[queue].running += 1;
    }

    // Steps in flight --------------------------------------------------------------------------------------------

    /// Takes note of all handlers that have ended by now.
    fn collect_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.task_ended(ended);
        }
    }

    fn task_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, panicked) = match &ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some((key, queue)) = self.task_of.remove(&id) else { return };
        self.queues[queue].running -= 1;
        let Some(owned) = self.owned.get_mut(&key.step).filter(|owned| owned.task == Some(id)) else { return };
        owned.task = None;
        if panicked {
            // The handler's own panics are caught; this one came from dropping what it left behind.
            let error = Payload::new(&serde_json::json!({ "message": "the handler panicked in a destructor" })).ok();
            self.send(Outcome::Ended(Ended {
                key,
                outcome: AttemptOutcome::Panicked,
                error,
                retryable: true,
                delay: None,
            }));
        }
    }

    fn attempts(&self) -> impl Iterator<Item = AttemptKey> {
        self.owned.iter().map(|(step, owned)| AttemptKey { step: *step, attempt: owned.attempt })
    }

    /// Hands an outcome to the completer without ever waiting for it: the completer waits for the engine.
    fn send(&self, outcome: Outcome) {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            // The completer is gone only with the session.
            let _ = outcomes.send(outcome).await;
        });
    }

    /// Acts on an event. True when the worker is lost.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Wake => self.look_everywhere(),
            Event::Reconnected => {
                for queue in &mut self.queues {
                    queue.listening = false;
                    queue.look = true;
                }
            }
            Event::ListOwned(reply) => {
                // Nobody waits for the answer any more: nothing to do.
                let _ = reply.send(self.attempts().collect());
            }
            Event::LeasesLost(keys) => {
                self.collect_ended();
                for key in keys {
                    // A step whose handler has ended is on its way through the completer, which will say what became of it.
                    if self
                        .owned
                        .get(&key.step)
                        .is_some_and(|owned| owned.attempt == key.attempt && owned.task.is_some())
                    {
                        tracing::warn!(%key, "the lease was lost; the handler is stopped");
                        self.summary.lost += 1;
                        if let Some(owned) = self.owned.remove(&key.step) {
                            owned.cancel.cancel();
                        }
                    }
                }
            }
            Event::LeaseOverdue => self.hand_back("the worker could not reach the database for longer than its lease"),
            Event::WorkerLost => return true,
            Event::Settled { keys, lost } => {
                self.summary.settled += (keys.len() - lost.len()) as u64;
                self.summary.lost += lost.len() as u64;
                for (key, outcome) in keys {
                    if self.owned.get(&key.step).is_none_or(|owned| owned.attempt != key.attempt) {
                        continue;
                    }
                    let queue = self.owned.remove(&key.step).and_then(|owned| owned.queue);
                    if let Some(queue) = queue.filter(|_| !lost.contains(&key)) {
                        match outcome {
                            "completed" => self.queues[queue].completed += 1,
                            "failed" | "timed_out" | "panicked" => self.queues[queue].failed += 1,
                            _ => {}
                        }
                    }
                }
            }
        }
        false
    }

    // The end ----------------------------------------------------------------------------------------------------

    fn begin_stop(&mut self) {
        tracing::info!(worker = self.worker, running = self.tasks.len(), grace = ?self.settings.grace, "stopping");
        self.deadline = Some(Instant::now() + self.settings.grace);
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
        for (step, owned) in &self.owned {
            if owned.task.is_some() {
                owned.cancel.cancel();
                self.send(Outcome::released(AttemptKey { step: *step, attempt: owned.attempt }, reason));
            }
        }
    }

    /// The worker's leases are gone: all handlers stop, and nothing is written.
    fn give_up(&mut self) -> End {
        for owned in self.owned.values() {
            owned.cancel.cancel();
        }
        self.summary.lost += self.owned.len() as u64;
        self.owned.clear();
        // A worker that was told to stop has nothing to begin anew for.
        if self.deadline.is_some() { End::Stopped } else { End::Lost }
    }
}

/// The result of the claim in flight.
async fn finished(claiming: &mut Option<JoinHandle<ClaimResult>>) -> Result<ClaimResult, JoinError> {
    match claiming {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}
