//! When to claim, and what to do with what came.

use std::{sync::Arc, time::Instant};

use longhaul_schema::{Error, calls::Claimed, retry::Backoff};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{Engine, Owned};
use crate::{
    StepContext,
    claim::{Claim, ClaimResult, Wanted},
    context::{BranchPath, Inner},
    durable::History,
    execute::{Outcome, execute},
    queue::Queue,
};

impl Engine {
    pub(super) fn look_everywhere(&mut self) {
        for queue in &mut self.queues {
            queue.look = true;
        }
    }

    pub(super) fn claim_if_due(&mut self) {
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
    pub(super) fn take_claim(&mut self, result: Result<ClaimResult, JoinError>) -> bool {
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
    pub(super) fn claim_again_later(&mut self) {
        self.claim_failed = true;
        self.poll_at = Instant::now() + self.backoff.next_wait();
    }

    pub(super) fn start(&mut self, claimed: Claimed) {
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
}
