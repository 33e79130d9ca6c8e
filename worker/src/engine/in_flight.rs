//! Steps in flight: handlers that end, leases that are lost, outcomes that are stored.

use longhaul_schema::{
    Payload,
    calls::{AttemptKey, AttemptOutcome, EndedAttempt, RefusedAttempt},
};
use tokio::task::{Id, JoinError};

use super::{Engine, Stage};
use crate::{event::Event, outcome::Outcome};

impl Engine {
    /// Takes note of all handlers that have ended by now.
    pub(super) fn collect_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.task_ended(ended);
        }
    }

    pub(super) fn task_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, panicked) = match &ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some((key, queue)) = self.task_of.remove(&id) else { return };
        self.queues[queue].ended();
        let Some(owned) = self.owned.get_mut(&key.step).filter(|owned| owned.stage == Stage::Running(id)) else {
            return;
        };
        owned.stage = Stage::Ended;
        if panicked {
            // The handler's own panics are caught; this one came from dropping what it left behind.
            let error = Payload::new(&serde_json::json!({ "message": "the handler panicked in a destructor" })).ok();
            self.send(Outcome::Ended(EndedAttempt {
                key,
                outcome: AttemptOutcome::Panicked,
                error,
                retryable: true,
                delay: None,
            }));
        }
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = AttemptKey> {
        self.owned.iter().map(|(step, owned)| AttemptKey { step: *step, attempt: owned.attempt })
    }

    /// Hands an outcome to the completer without ever waiting for it: the completer waits for the engine.
    pub(super) fn send(&self, outcome: Outcome) {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            // The completer ends only with the session, which gives the leases up.
            let _ = outcomes.send(outcome).await;
        });
    }

    /// Acts on an event. True when the worker is lost.
    pub(super) fn handle(&mut self, event: Event) -> bool {
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
            Event::LeasesLost(lost) => {
                self.collect_ended();
                for lost in lost {
                    self.lease_is_gone(&lost);
                }
            }
            Event::Draining => self.drain(),
            Event::LeaseOverdue => self.hand_back("the worker could not reach the database for longer than its lease"),
            Event::WorkerLost => return true,
            Event::Settled(outcomes) => {
                for (key, outcome) in outcomes {
                    self.settled(key, outcome);
                }
            }
        }
        false
    }

    /// What an outcome came to, in the database's words.
    fn settled(&mut self, key: AttemptKey, outcome: &'static str) {
        match outcome {
            "lost" => self.summary.lost += 1,
            "cancelled" => self.summary.cancelled += 1,
            _ => self.summary.settled += 1,
        }
        if self.owned.get(&key.step).is_none_or(|owned| owned.attempt != key.attempt) {
            return;
        }
        if let Some(queue) = self.owned.remove(&key.step).and_then(|owned| owned.queue) {
            match outcome {
                "completed" => self.queues[queue].completed += 1,
                "failed" | "timed_out" | "panicked" => self.queues[queue].failed += 1,
                _ => {}
            }
        }
    }

    /// A step that is no longer this worker's: its handler is stopped.
    fn lease_is_gone(&mut self, lost: &RefusedAttempt) {
        let key = lost.key;
        // A step whose handler has ended is on its way through the completer, which will say what became of it. So is one that
        // its handler completes in a transaction of its own.
        if lost.was_done_before()
            || self.owned.get(&key.step).is_none_or(|owned| owned.attempt != key.attempt || owned.stage == Stage::Ended)
        {
            return;
        }
        if lost.is_cancelled() {
            tracing::info!(%key, "the run has ended; the handler is stopped");
            self.summary.cancelled += 1;
        } else {
            tracing::warn!(%key, "the lease was lost; the handler is stopped");
            self.summary.lost += 1;
        }
        if let Some(owned) = self.owned.remove(&key.step) {
            owned.cancel.cancel();
        }
    }
}
