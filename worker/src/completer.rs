//! Stores outcomes: completions, suspensions, and attempts that ended otherwise.

use std::time::Instant;

use longhaul_schema::{
    Database, Error, Payload,
    backoff::Backoff,
    calls::{AttemptKey, AttemptOutcome, EndedAttempt, NewWait, RefusedAttempt},
    payload::into_calls,
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    OutcomeReport, StepError,
    batch::{self, Destination, Stored, logged, reachable, reason},
    event::Event,
    observe::Observed,
    outcome::Outcome,
};

/// Most outcomes in one call.
pub(crate) const MAX_BATCH: usize = 1000;

/// Takes outcomes until all senders are gone, and stores every one of them, however long the database is away.
pub(crate) async fn run(
    database: Database,
    worker: i64,
    outcomes: mpsc::Receiver<Outcome>,
    events: mpsc::Sender<Event>,
    observed: Observed,
) -> Result<(), Error> {
    batch::run(&Completer { database, worker, events, observed }, outcomes, MAX_BATCH).await
}

/// An outcome on its way.
#[derive(Debug)]
struct Parcel {
    outcome: Outcome,
    /// It already stands for one that could not be stored.
    substitute: bool,
}

impl From<Outcome> for Parcel {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, substitute: false }
    }
}

struct Completer {
    database: Database,
    worker: i64,
    events: mpsc::Sender<Event>,
    observed: Observed,
}

impl Destination for Completer {
    type Item = Parcel;

    /// Completions, suspensions and ends go by different functions.
    fn calls(&self, batch: Vec<Parcel>) -> Vec<Vec<Parcel>> {
        let (mut completed, mut suspended, mut ended) = (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
        for parcel in batch {
            match parcel.outcome {
                Outcome::Completed(..) => completed.push(parcel),
                Outcome::Suspended(..) => suspended.push(parcel),
                Outcome::Ended(..) => ended.push(parcel),
            }
        }
        let kinds = [ended, suspended, completed].into_iter().filter(|kind| !kind.is_empty());
        kinds.flat_map(|kind| into_calls(kind, MAX_BATCH, |parcel| parcel.outcome.size())).collect()
    }

    async fn store(&self, parcels: Vec<Parcel>) -> Stored<Parcel> {
        let words: Vec<_> = parcels.iter().map(|p| (p.outcome.key(), p.outcome.as_str())).collect();
        let substitutes: Vec<bool> = parcels.iter().map(|p| p.substitute).collect();
        let outcomes = parcels.into_iter().map(|p| p.outcome).collect();
        let (begun, measures) = (Instant::now(), &self.observed.measures);
        let (outcomes, answer) = self.call(outcomes).await;
        if answer.is_ok() {
            measures.stores.time(begun.elapsed());
            measures.stored.items(outcomes.len());
        } else {
            measures.failed_stores.add(1);
        }
        let parcels = outcomes.into_iter().zip(substitutes).map(|(outcome, substitute)| Parcel { outcome, substitute });
        let refused = match answer {
            Ok(refused) => refused,
            Err(error) => return Err((parcels.collect(), error)),
        };
        let busy: Vec<AttemptKey> = refused.iter().filter(|r| r.is_busy()).map(|r| r.key).collect();
        let again = parcels.filter(|parcel| busy.contains(&parcel.outcome.key())).collect();
        self.settle(words.into_iter().filter(|(key, _)| !busy.contains(key)).collect(), refused).await;
        Ok(again)
    }

    /// An outcome that cannot be stored is a failed attempt. When not even that can be stored, the lease is given up.
    async fn refused(&self, parcel: Parcel, error: &Error) -> Option<Parcel> {
        let key = parcel.outcome.key();
        if parcel.substitute {
            tracing::error!(%key, error = logged(error), "the attempt cannot be ended in any way; its lease is given up");
            self.let_go(key);
            return None;
        }
        tracing::warn!(%key, error = logged(error), "the outcome cannot be stored; the attempt has failed");
        let why = reason(error);
        let outcome = match parcel.outcome {
            Outcome::Completed(..) => {
                Outcome::failed(key, &StepError::fail(format!("the output cannot be stored: {why}")))
            }
            Outcome::Suspended(..) => {
                Outcome::failed(key, &StepError::fail(format!("the step cannot wait for that: {why}")))
            }
            Outcome::Ended(ended) => {
                let error = json!({ "message": format!("the end of the attempt cannot be stored: {why}") });
                Outcome::Ended(EndedAttempt {
                    key,
                    outcome: AttemptOutcome::Failed,
                    error: Payload::new(&error).ok(),
                    retryable: ended.retryable,
                    delay: None,
                })
            }
        };
        Some(Parcel { outcome, substitute: true })
    }

    async fn reachable(&self) -> bool {
        reachable(&self.database).await
    }
}

impl Completer {
    /// Makes the call for outcomes of one kind, and gives them back with its answer.
    async fn call(&self, outcomes: Vec<Outcome>) -> (Vec<Outcome>, Result<Vec<RefusedAttempt>, Error>) {
        let calls = match self.database.calls().await {
            Ok(calls) => calls,
            Err(error) => return (outcomes, Err(error)),
        };
        let mut completed: Vec<(AttemptKey, Payload)> = Vec::new();
        let mut suspended: Vec<(AttemptKey, Vec<NewWait>)> = Vec::new();
        let mut ended: Vec<EndedAttempt> = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Completed(key, output) => completed.push((key, output)),
                Outcome::Suspended(key, awaited) => suspended.push((key, awaited)),
                Outcome::Ended(end) => ended.push(end),
            }
        }
        if !completed.is_empty() {
            let answer = calls.try_complete(self.worker, &completed).await;
            return (completed.into_iter().map(|(key, output)| Outcome::Completed(key, output)).collect(), answer);
        }
        if !suspended.is_empty() {
            let answer = calls.try_suspend(self.worker, &suspended).await;
            return (suspended.into_iter().map(|(key, awaited)| Outcome::Suspended(key, awaited)).collect(), answer);
        }
        let answer = calls.try_end_attempts(self.worker, &ended).await;
        (ended.into_iter().map(Outcome::Ended).collect(), answer)
    }

    /// Says what became of attempts. What a call of this worker had decided before counts, and not what was sent now: a handler
    /// may have completed its step itself.
    async fn settle(&self, mut words: Vec<(AttemptKey, &'static str)>, refused: Vec<RefusedAttempt>) {
        for refused in self.explained(refused).await {
            let word = match refused.done_before() {
                Some(before) => outcome_named(before),
                None if refused.is_busy() => continue,
                None if refused.is_cancelled() => "cancelled",
                None if refused.invalid().is_some() => {
                    tracing::warn!(key = %refused.key, "the outcome cannot be stored; the attempt has failed");
                    "failed"
                }
                None => {
                    tracing::warn!(key = %refused.key, worker = self.worker, "the outcome was refused: the lease was lost");
                    "lost"
                }
            };
            words.iter_mut().filter(|(key, _)| *key == refused.key).for_each(|(_, sent)| *sent = word);
        }
        words.iter().for_each(|(_, word)| self.observed.measures.outcomes.add(word));
        if self.observed.outcomes.receiver_count() > 0 {
            for (key, outcome) in &words {
                // Nobody listens any more: nothing to do.
                let _ = self.observed.outcomes.send(OutcomeReport { key: *key, outcome });
            }
        }
        // The engine is gone only when the session ends, and this task with it.
        let _ = self.events.send(Event::Settled(words)).await;
    }

    /// Whether leases that are gone were lost, or went with their runs.
    async fn explained(&self, mut refused: Vec<RefusedAttempt>) -> Vec<RefusedAttempt> {
        let gone: Vec<AttemptKey> = refused.iter().filter(|r| r.reason == "lease_lost").map(|r| r.key).collect();
        if gone.is_empty() {
            return refused;
        }
        let asked = async { self.database.calls().await?.what_became_of(self.worker, &gone).await };
        if let Ok(explained) = asked.await {
            for refused in refused.iter_mut().filter(|r| r.reason == "lease_lost") {
                if let Some(known) = explained.iter().find(|known| known.key == refused.key) {
                    refused.reason.clone_from(&known.reason);
                }
            }
        }
        refused
    }

    /// In a task of its own: the run may be held by somebody, and other outcomes do not wait for that.
    fn let_go(&self, key: AttemptKey) {
        let (database, worker, events) = (self.database.clone(), self.worker, self.events.clone());
        tokio::spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                match async { database.calls().await?.let_go(worker, &[key]).await }.await {
                    Err(error) if error.is_transient() => backoff.wait().await,
                    Err(error) => {
                        tracing::error!(%key, error = logged(&error), "the lease lives for as long as this worker");
                        break;
                    }
                    Ok(_) => break,
                }
            }
            // The engine is gone only with the session.
            let _ = events.send(Event::Settled(vec![(key, "lost")])).await;
        });
    }
}

/// The word for an outcome that the database names.
fn outcome_named(name: &str) -> &'static str {
    ["completed", "suspended", "timed_out", "panicked", "released", "snoozed", "deferred"]
        .into_iter()
        .find(|word| *word == name)
        .unwrap_or("failed")
}
