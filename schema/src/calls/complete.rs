//! Ending attempts: completing, failing, releasing.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio_postgres::types::Json;

use super::{AttemptKey, Calls, Columns, Executor, Row, attempt_key};
use crate::{Payload, Result, duration::millis};

/// How an attempt ended that did not complete its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The handler returned an error.
    Failed,
    /// It took longer than the step's timeout.
    TimedOut,
    /// The handler panicked.
    Panicked,
    /// It was handed back unfinished; not counted.
    Released,
    /// The handler asked to be called again later; not counted.
    Snoozed,
    /// An outside provider was busy or down; not counted, but the wait grows with each.
    Deferred,
}

impl AttemptOutcome {
    /// The word that the database uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Panicked => "panicked",
            Self::Released => "released",
            Self::Snoozed => "snoozed",
            Self::Deferred => "deferred",
        }
    }
}

/// An attempt that ended without completing its step.
#[derive(Clone, Debug)]
pub struct EndedAttempt {
    /// Which attempt.
    pub key: AttemptKey,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What went wrong, kept with the attempt.
    pub error: Option<Payload>,
    /// Whether a failed attempt may be followed by another.
    pub retryable: bool,
    /// Wait before the next attempt; the step's own backoff when `None`.
    pub delay: Option<Duration>,
}

/// An item of a call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAttempt {
    /// Which attempt.
    pub key: AttemptKey,
    /// `lease_lost`: the attempt is no longer this worker's. `cancelled`: because its run ended. `not_found`: there is no such
    /// step. `already_…`: this attempt of this worker had ended so before, as when a call is repeated after a lost answer.
    /// `busy`: somebody else is at the run; the lease is still held, and the item is to be sent again. `invalid: …`: the database
    /// could not take it, and the attempt has failed with this reason.
    pub reason: String,
}

impl RefusedAttempt {
    /// The attempt had been ended by an earlier call of this worker whose answer was lost.
    pub fn was_done_before(&self) -> bool {
        self.done_before().is_some()
    }

    /// How the attempt had been ended by an earlier call of this worker.
    pub fn done_before(&self) -> Option<&str> {
        self.reason.strip_prefix("already_")
    }

    /// Nothing was decided: the item is to be sent again.
    pub fn is_busy(&self) -> bool {
        self.reason == "busy"
    }

    /// The attempt has failed, because what was sent could not be stored: why.
    pub fn invalid(&self) -> Option<&str> {
        self.reason.strip_prefix("invalid: ")
    }

    /// The attempt's run has ended, and its step with it.
    pub fn is_cancelled(&self) -> bool {
        self.reason == "cancelled"
    }
}

impl<E: Executor> Calls<E> {
    /// Completes steps. Returns only what was refused. May be repeated.
    pub async fn complete(&self, worker: i64, items: &[(AttemptKey, Payload)]) -> Result<Vec<RefusedAttempt>> {
        self.completion(worker, items, false).await
    }

    /// As [`Calls::complete`], but does not wait for runs that somebody else is at: their items are refused as `busy`.
    pub async fn try_complete(&self, worker: i64, items: &[(AttemptKey, Payload)]) -> Result<Vec<RefusedAttempt>> {
        self.completion(worker, items, true).await
    }

    async fn completion(
        &self,
        worker: i64,
        items: &[(AttemptKey, Payload)],
        skip_busy: bool,
    ) -> Result<Vec<RefusedAttempt>> {
        let keys = Columns::of(items.iter().map(|(key, _)| *key));
        let outputs: Vec<Json<&RawValue>> = items.iter().map(|(_, output)| Json(output.raw())).collect();
        let rows = self
            .rows(
                "select * from longhaul.complete($1, $2, $3, $4, $5, $6)",
                &[&worker, &keys.run_ids, &keys.seqs, &keys.attempts, &outputs, &skip_busy],
            )
            .await?;
        rows.iter().map(refused).collect()
    }

    /// Ends attempts that did not complete their steps. Returns only what was refused. May be repeated.
    pub async fn end_attempts(&self, worker: i64, items: &[EndedAttempt]) -> Result<Vec<RefusedAttempt>> {
        self.ends(worker, items, false).await
    }

    /// As [`Calls::end_attempts`], but does not wait for runs that somebody else is at: their items are refused as `busy`.
    pub async fn try_end_attempts(&self, worker: i64, items: &[EndedAttempt]) -> Result<Vec<RefusedAttempt>> {
        self.ends(worker, items, true).await
    }

    async fn ends(&self, worker: i64, items: &[EndedAttempt], skip_busy: bool) -> Result<Vec<RefusedAttempt>> {
        let keys = Columns::of(items.iter().map(|item| item.key));
        let outcomes: Vec<&str> = items.iter().map(|item| item.outcome.as_str()).collect();
        let errors: Vec<Option<Json<&RawValue>>> =
            items.iter().map(|item| item.error.as_ref().map(|e| Json(e.raw()))).collect();
        let retryable: Vec<bool> = items.iter().map(|item| item.retryable).collect();
        let delays: Vec<Option<i64>> = items.iter().map(|item| item.delay.map(millis)).collect();
        let rows = self
            .rows(
                "select * from longhaul.end_attempts($1, $2, $3, $4, $5::text[]::longhaul.attempt_outcome[], $6, $7, $8, $9)",
                &[
                    &worker,
                    &keys.run_ids,
                    &keys.seqs,
                    &keys.attempts,
                    &outcomes,
                    &errors,
                    &retryable,
                    &delays,
                    &skip_busy,
                ],
            )
            .await?;
        rows.iter().map(refused).collect()
    }
}

pub(super) fn refused(row: &Row) -> Result<RefusedAttempt> {
    Ok(RefusedAttempt { key: attempt_key(row)?, reason: row.try_get("refusal")? })
}
