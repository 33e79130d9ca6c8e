//! Claiming ready steps.

use super::{AttemptKey, Calls, Columns, Executor, Row, attempt_key};
use crate::{Payload, Result};

/// A step that a worker now owns.
#[derive(Clone, Debug)]
pub struct ClaimedStep {
    /// The step and the number of this attempt: the fencing token.
    pub key: AttemptKey,
    /// Attempts that failed before this one.
    pub failures: i16,
    /// The flow version of its run.
    pub flow_id: i32,
    /// The queue that it was claimed from.
    pub queue: String,
    /// The step's input: its own where it has one, the run's otherwise.
    pub input: Payload,
    /// Number of its definition in the flow version: its own, but for items of a fan-out and compensations.
    pub definition: i32,
}

impl<E: Executor> Calls<E> {
    /// Claims up to so many ready steps of each queue (at most 10,000 each) for a worker.
    ///
    /// Not to be repeated blindly: after a lost answer, [`Calls::forgotten_leases`] tells what was claimed.
    pub async fn claim(&self, worker: i64, queues: &[&str], limits: &[i32]) -> Result<Vec<ClaimedStep>> {
        self.claim_numbered(worker, queues, limits, None).await
    }

    /// [`Calls::claim`] by a worker that numbers its claims: once it has asked for the forgotten leases of this one, it is
    /// refused, however late it arrives.
    pub async fn claim_numbered(
        &self,
        worker: i64,
        queues: &[&str],
        limits: &[i32],
        number: Option<i64>,
    ) -> Result<Vec<ClaimedStep>> {
        let sql = "select * from longhaul.claim($1, $2, $3, $4)";
        self.rows(sql, &[&worker, &queues, &limits, &number]).await?.iter().map(claimed).collect()
    }

    /// The steps that a worker owns beside those that it knows of: what claims took whose answers were lost. Claims up to
    /// this number take nothing after this.
    pub async fn forgotten_leases(
        &self,
        worker: i64,
        known: impl Iterator<Item = AttemptKey>,
        number: Option<i64>,
    ) -> Result<Vec<ClaimedStep>> {
        let known = Columns::of(known);
        let sql = "select * from longhaul.forgotten_leases($1, $2, $3, $4)";
        self.rows(sql, &[&worker, &known.run_ids, &known.seqs, &number]).await?.iter().map(claimed).collect()
    }
}

fn claimed(row: &Row) -> Result<ClaimedStep> {
    Ok(ClaimedStep {
        key: attempt_key(row)?,
        failures: row.try_get("failures")?,
        flow_id: row.try_get("flow_id")?,
        queue: row.try_get("queue")?,
        definition: row.try_get("def")?,
        input: row.try_get("input")?,
    })
}
