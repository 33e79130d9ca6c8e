//! What debounced writers store.

use serde_json::value::RawValue;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, StepKey, readable};
use crate::{Payload, Result};

/// What a worker says of one of its queues; counters since it registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigure {
    /// Steps of it that run now.
    pub running: i32,
    /// Steps of it that may run at once.
    pub slots: i32,
    /// Claimed so far.
    pub claimed: i64,
    /// Completed so far.
    pub completed: i64,
    /// Attempts that failed so far.
    pub failed: i64,
}

/// A value that a handler reported.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Number of the step.
    pub seq: i32,
    /// Its key; empty for the step's own progress.
    pub key: String,
    /// The last value.
    pub value: Payload,
}

/// A value that a handler reported.
#[derive(Clone, Debug)]
pub struct ProgressValue {
    /// The handler's attempt.
    pub attempt: i32,
    /// The value.
    pub value: Payload,
}

impl<E: Executor> Calls<E> {
    /// Stores the last values that handlers reported, by step and key, in one statement. Keys must be sorted and unlike.
    /// `number` is that of the call among its worker's: a call that arrives after one with a higher number replaces nothing,
    /// nor does an earlier attempt.
    pub async fn save_progress(&self, values: &[((StepKey, String), ProgressValue)], number: i64) -> Result<()> {
        let runs: Vec<Uuid> = values.iter().map(|((step, _), _)| step.run_id).collect();
        let seqs: Vec<i32> = values.iter().map(|((step, _), _)| step.seq).collect();
        let keys: Vec<&str> = values.iter().map(|((_, key), _)| key.as_str()).collect();
        let payloads: Vec<Json<&RawValue>> = values.iter().map(|(_, reported)| Json(reported.value.raw())).collect();
        let attempts: Vec<i32> = values.iter().map(|(_, reported)| reported.attempt).collect();
        let sql = "select longhaul.save_progress($1, $2, $3, $4, $5, $6)";
        self.run(sql, &[&runs, &seqs, &keys, &payloads, &attempts, &number]).await
    }

    /// Stores what a worker says of its queues, in one statement.
    pub async fn save_figures(&self, worker: i64, figures: &[(String, QueueFigure)]) -> Result<()> {
        let queues: Vec<&str> = figures.iter().map(|(queue, _)| queue.as_str()).collect();
        let running: Vec<i32> = figures.iter().map(|(_, f)| f.running).collect();
        let slots: Vec<i32> = figures.iter().map(|(_, f)| f.slots).collect();
        let claimed: Vec<i64> = figures.iter().map(|(_, f)| f.claimed).collect();
        let completed: Vec<i64> = figures.iter().map(|(_, f)| f.completed).collect();
        let failed: Vec<i64> = figures.iter().map(|(_, f)| f.failed).collect();
        self.run(
            "select longhaul.save_figures($1, $2, $3, $4, $5, $6, $7)",
            &[&worker, &queues, &running, &slots, &claimed, &completed, &failed],
        )
        .await
    }

    /// The figures of a tenant's queues over all workers, by name, each with how many workers live: what they last said.
    pub async fn queue_figures(&self, tenant: &str) -> Result<Vec<(String, i64, QueueFigure)>> {
        let rows = self
            .rows(
                "select name, workers, running::bigint, slots::bigint, claimed, completed, failed from longhaul.queue_figures where tenant = $1 order by name",
                &[&tenant],
            )
            .await?;
        // Sums over workers may not fit.
        let most = |sum: i64| i32::try_from(sum).unwrap_or(i32::MAX);
        readable(&rows, |row| {
            let figure = QueueFigure {
                running: most(row.try_get("running")?),
                slots: most(row.try_get("slots")?),
                claimed: row.try_get("claimed")?,
                completed: row.try_get("completed")?,
                failed: row.try_get("failed")?,
            };
            Ok((row.try_get("name")?, row.try_get("workers")?, figure))
        })
    }

    /// What the handlers of a run reported, by step and key.
    pub async fn list_progress(&self, run: Uuid) -> Result<Vec<Progress>> {
        let rows = self
            .rows("select seq, key, value from longhaul.progress where run_id = $1 order by seq, key", &[&run])
            .await?;
        readable(&rows, |row| {
            Ok(Progress {
                seq: row.try_get("seq")?,
                key: row.try_get("key")?,
                value: row.try_get::<Option<Payload>>("value")?.unwrap_or_else(Payload::null),
            })
        })
    }
}
