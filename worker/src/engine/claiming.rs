//! When to claim, and what to do with what came.

use std::{sync::Arc, time::Instant};

use longhaul_schema::{
    Database, Error,
    backoff::Backoff,
    calls::{AttemptKey, ClaimedStep},
};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{Engine, Owned, Stage, Unfinished};
use crate::{
    StepContext,
    claim::{Claim, ClaimResult, Wanted},
    context::{BranchPath, Inner},
    execute::execute,
    measure::Measures,
    outcome::Outcome,
    queue::{Queue, Ready},
    replay::History,
    store::Store,
};

/// Polls of an idle worker before it takes longer.
const PATIENT_POLLS: u32 = 3;

/// From then on the time doubles, so many times.
const MOST_DOUBLINGS: u32 = 3;

/// Why a step that was claimed long ago is not begun.
const STALE: &str = "the worker was away for as long as its lease lives";

impl Engine {
    pub(super) fn look_everywhere(&mut self) {
        for queue in &mut self.queues {
            queue.look = true;
        }
    }

    /// When to look without being told. A worker that is notified looks less and less often, once all transactions have ended that
    /// may have made steps ready without telling it: what it waits for then is a notification that was lost.
    pub(super) fn poll_later(&mut self) {
        // The builder bounds the interval.
        let longest = self.settings.poll * 2_u32.pow(MOST_DOUBLINGS);
        let doublings = self.idle_polls.saturating_sub(PATIENT_POLLS).min(MOST_DOUBLINGS);
        let wait = self.unfinished.map_or(self.settings.poll * 2_u32.pow(doublings), |unfinished| unfinished.wait);
        self.poll_at = Instant::now() + wait.min(longest);
    }

    pub(super) fn claim_if_due(&mut self) {
        if self.claiming.is_some() || self.claim_failed || !self.claims() {
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
        self.summary.claims += 1;
        let claim = Claim {
            worker: self.worker,
            number: i64::try_from(self.summary.claims).unwrap_or(i64::MAX),
            wanted,
            recover: self.recover.then(|| self.attempts().collect()),
            unfinished: self.unfinished.map(|unfinished| unfinished.before),
            flows: std::mem::take(&mut self.flows),
        };
        self.claiming =
            Some(tokio::spawn(measured(claim, self.database.clone(), self.settings.observed.measures.clone())));
    }

    /// Takes in what a claim brought. True when the worker is lost.
    pub(super) fn take_claim(&mut self, result: Result<ClaimResult, JoinError>) -> bool {
        self.poll_later();
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
            Err(Error::Refused(reason)) => {
                // Overdue, or drained: the next heartbeat tells, and comes now.
                tracing::debug!(worker = self.worker, reason, "claim refused");
                self.beat.notify_one();
                self.claim_again_later();
                return false;
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
        let busy = self.cpu.busy();
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
        let listening = self.queues.iter().filter(|queue| queue.listening).count();
        self.unfinished = Unfinished::found(result.unfinished.filter(|_| listening > 0), self.unfinished);
        let idle = claimed.is_empty() && listening == self.queues.len() && self.unfinished.is_none();
        self.idle_polls = if idle { self.idle_polls.saturating_add(1) } else { 0 };
        self.poll_later();
        for step in claimed {
            self.take_in(step);
        }
        self.fill_slots();
        false
    }

    /// A claim failed, but may have been made all the same: after a while the database is asked what it took.
    pub(super) fn claim_again_later(&mut self) {
        self.claim_failed = true;
        self.poll_at = Instant::now() + self.backoff.next_wait();
    }

    /// A claimed step is this worker's from now on; it begins when a slot of its queue is free.
    fn take_in(&mut self, claimed: ClaimedStep) {
        let key = claimed.key;
        let queue = self.queues.iter().position(|q| q.name == claimed.queue);
        self.summary.claimed += 1;
        self.owned.insert(
            key.step,
            Owned { attempt: key.attempt, cancel: CancellationToken::new(), stage: Stage::Waiting, queue },
        );
        let step = self.flows.step_of(&claimed).filter(|step| self.registry.get(&step.handler).is_some());
        match (queue, step.cloned()) {
            (Some(_), Some(_)) if !self.claims() => self.release(key, "the worker was shutting down"),
            // An answer that lay about while the process was frozen.
            (Some(_), Some(_)) if !self.lease.holds() => self.release(key, STALE),
            (Some(queue), Some(step)) => self.queues[queue].push(Ready { claimed, step }),
            _ => {
                tracing::error!(%key, queue = claimed.queue, "claimed a step that this worker cannot do");
                self.release(key, "the worker does not know the step's handler");
            }
        }
    }

    /// Begins steps that wait for a slot, as many as there are slots.
    pub(super) fn fill_slots(&mut self) {
        if !self.lease.holds() {
            self.release_waiting(true, STALE);
        }
        for queue in 0..self.queues.len() {
            while let Some(ready) = self.queues[queue].pop() {
                self.start(queue, ready);
            }
        }
    }

    /// Gives steps back that have waited for a slot for too long, or all that wait.
    pub(super) fn release_waiting(&mut self, all: bool, reason: &str) {
        for queue in 0..self.queues.len() {
            for ready in self.queues[queue].give_up_waiting(all) {
                if self.still_waits(ready.claimed.key) {
                    self.release(ready.claimed.key, reason);
                }
            }
        }
    }

    fn release(&mut self, key: AttemptKey, reason: &str) {
        if let Some(owned) = self.owned.get_mut(&key.step) {
            owned.stage = Stage::Ended;
        }
        self.send(Outcome::released(key, reason));
    }

    /// False when its lease was lost while it waited.
    fn still_waits(&self, key: AttemptKey) -> bool {
        self.owned.get(&key.step).is_some_and(|owned| owned.attempt == key.attempt && owned.stage == Stage::Waiting)
    }

    fn start(&mut self, queue: usize, Ready { claimed, step }: Ready) {
        let key = claimed.key;
        let Some(handler) = self.registry.get(&step.handler).cloned().filter(|_| self.still_waits(key)) else { return };
        let cancel = self.owned[&key.step].cancel.clone();
        let inner = Inner {
            store: Store::Database(self.database.clone()),
            key,
            failures: claimed.failures,
            step,
            worker: self.worker,
            cancel,
            lease: self.lease.clone(),
            max_payload: self.settings.max_payload,
            max_history: self.settings.max_history,
            history: History::default(),
            waiting: Arc::default(),
            saver: self.saver.clone(),
            progress: self.progress.clone(),
            states: self.settings.states.clone(),
            completed_in: false.into(),
        };
        let context = StepContext { inner: Arc::new(inner), branch: BranchPath::new(String::new()) };
        let attempt = execute(context, handler, claimed.input, self.settings.around.clone(), self.outcomes.clone());
        let measures = self.settings.observed.measures.clone();
        let attempt = async move {
            let begun = std::time::Instant::now();
            attempt.await;
            measures.queues[queue].attempts.time(begun.elapsed());
        };
        // Boxed: the runtime moves what it is given several times.
        let task = self.tasks.spawn(Box::pin(attempt)).id();
        self.task_of.insert(task, (key, queue));
        if let Some(owned) = self.owned.get_mut(&key.step) {
            owned.stage = Stage::Running(task);
        }
        self.queues[queue].running += 1;
    }
}

/// Makes a claim, and notes how long it took and what it brought.
async fn measured(claim: Claim, database: Database, measures: Arc<Measures>) -> ClaimResult {
    let begun = std::time::Instant::now();
    let result = claim.make(database).await;
    match &result.outcome {
        Ok(claimed) => {
            measures.claims.time(begun.elapsed());
            measures.claimed.items(claimed.len());
        }
        Err(_) => measures.failed_claims.add(1),
    }
    result
}
