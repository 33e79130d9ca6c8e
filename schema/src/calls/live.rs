//! What is done at this moment, and what lies on disk.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor, readable};
use crate::Result;

/// A queue at this moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LiveQueue {
    /// Its name.
    pub queue: String,
    /// Since when nothing is claimed from it.
    pub paused_at: Option<DateTime<Utc>>,
    /// Ready steps; at most 10,000 of each handler are counted.
    pub ready: i64,
    /// Since when the oldest of them is ready.
    pub oldest_ready_at: Option<DateTime<Utc>>,
    /// Living workers that serve it.
    pub workers: i64,
    /// Steps that they say they run.
    pub running: i64,
    /// Their slots.
    pub slots: i64,
    /// Attempts that completed their step, since the workers registered.
    pub completed: i64,
    /// Attempts that failed, since the workers registered.
    pub failed: i64,
}

/// A step that used up its attempts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failed {
    /// Its run.
    pub run_id: Uuid,
    /// The run's flow.
    pub flow: String,
    /// Its name.
    pub step: String,
    /// When its last attempt failed.
    pub died_at: DateTime<Utc>,
    /// What went wrong, in words.
    pub error: Option<String>,
}

/// What a table takes on disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// Bytes of it, its indexes and all its partitions.
    pub bytes: i64,
    /// Dead rows, as the server estimates them.
    pub dead_rows: i64,
    /// When a part of it was vacuumed last.
    pub vacuumed_at: Option<DateTime<Utc>>,
}

impl<E: Executor> Calls<E> {
    /// The database's clock: what ages and lengths are counted by.
    pub async fn present(&self) -> Result<DateTime<Utc>> {
        self.row("select longhaul.present()", &[]).await?.try_get(0)
    }

    /// The queues of a tenant at this moment. Cheap enough to be asked each second.
    pub async fn live_queues(&self, tenant: &str) -> Result<Vec<LiveQueue>> {
        let rows = self
            .rows(
                "select queue, paused_at, ready, oldest_ready_at, workers, running, slots, completed, failed from longhaul.live_queues($1)",
                &[&tenant],
            )
            .await?;
        readable(&rows, |row| {
            Ok(LiveQueue {
                queue: row.try_get("queue")?,
                paused_at: row.try_get("paused_at")?,
                ready: row.try_get("ready")?,
                oldest_ready_at: row.try_get("oldest_ready_at")?,
                workers: row.try_get("workers")?,
                running: row.try_get("running")?,
                slots: row.try_get("slots")?,
                completed: row.try_get("completed")?,
                failed: row.try_get("failed")?,
            })
        })
    }

    /// Steps that used up their attempts, those of the newest runs first.
    pub async fn newest_dead_letters(&self, tenant: &str, limit: i64) -> Result<Vec<Failed>> {
        let rows = self
            .rows(
                "select x.run_id, x.flow, x.step, x.died_at, longhaul.error_in_words(x.error) as error
                 from (select d.run_id, d.seq from longhaul.dead_letter d order by d.run_id desc limit 1000) d
                 join longhaul.dead_letters x on x.run_id = d.run_id and x.seq = d.seq
                 where x.tenant = $1 order by x.died_at desc limit $2",
                &[&tenant, &limit],
            )
            .await?;
        readable(&rows, |row| {
            Ok(Failed {
                run_id: row.try_get("run_id")?,
                flow: row.try_get("flow")?,
                step: row.try_get("step")?,
                died_at: row.try_get("died_at")?,
                error: row.try_get("error")?,
            })
        })
    }

    /// What the tables take on disk, the largest first.
    pub async fn table_sizes(&self) -> Result<Vec<TableSize>> {
        let rows = self
            .rows("select table_name, bytes, dead_rows, vacuumed_at from longhaul.sizes order by bytes desc", &[])
            .await?;
        readable(&rows, |row| {
            Ok(TableSize {
                table: row.try_get("table_name")?,
                bytes: row.try_get("bytes")?,
                dead_rows: row.try_get("dead_rows")?,
                vacuumed_at: row.try_get("vacuumed_at")?,
            })
        })
    }
}
