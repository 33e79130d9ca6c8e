//! What operators see at a glance, at a bounded cost: counts stop at [`COUNTED`].

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor, every, readable};
use crate::Result;

/// How far rows are counted for a glance.
pub const COUNTED: i64 = 10_000;

/// A number that was counted up to [`COUNTED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// So many, at least.
    pub count: i64,
    /// Whether there are more.
    pub more: bool,
}

/// How many steps of a tenant are in the rooms other than the ready ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Steps that workers hold.
    pub running: Counted,
    /// Steps that sleep.
    pub sleeping: Counted,
    /// Steps that wait for something.
    pub waiting: Counted,
    /// Steps that are kept back because their runs are paused.
    pub paused: Counted,
    /// Steps that wait for others of their key.
    pub queued: Counted,
}

/// The ready steps of a handler in a queue.
#[derive(Clone, Debug)]
pub struct QueueLine {
    /// The queue.
    pub queue: String,
    /// The handler.
    pub handler: String,
    /// How many are ready.
    pub ready: Counted,
    /// The one that has waited longest, and since when.
    pub oldest: Option<OldestReady>,
    /// Living workers that could take them.
    pub workers: i64,
}

/// A ready step that has waited longest.
#[derive(Clone, Debug)]
pub struct OldestReady {
    /// Since when it is ready.
    pub since: DateTime<Utc>,
    /// Its run.
    pub run_id: Uuid,
    /// Its name.
    pub step: String,
}

/// What was done in a piece of time.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// When the piece begins.
    pub at: DateTime<Utc>,
    /// Attempts that were claimed.
    pub claimed: i64,
    /// Attempts that completed their steps.
    pub completed: i64,
    /// Attempts that failed.
    pub failed: i64,
    /// Most ready steps at any minute of it, counted up to [`COUNTED`] for each handler.
    pub ready: i64,
    /// For how many milliseconds a step had been ready at most.
    pub oldest_ms: i64,
}

impl<E: Executor> Calls<E> {
    /// How many steps of a tenant are in the rooms other than the ready ones.
    pub async fn room_counts(&self, tenant: &str) -> Result<RoomCounts> {
        let rows =
            self.rows("select room, steps, complete from longhaul.room_counts($1, $2)", &[&tenant, &COUNTED]).await?;
        let mut counts = RoomCounts::default();
        for row in &rows {
            let counted = Counted { count: row.try_get("steps")?, more: !row.try_get::<bool>("complete")? };
            match row.try_get::<&str>("room")? {
                "lease" => counts.running = counted,
                "timer" => counts.sleeping = counted,
                "wait" => counts.waiting = counted,
                "held" => counts.paused = counted,
                _ => counts.queued = counted,
            }
        }
        Ok(counts)
    }

    /// The ready steps of a tenant, by queue and handler.
    pub async fn queue_lines(&self, tenant: &str) -> Result<Vec<QueueLine>> {
        let rows = self
            .rows(
                "select queue, handler, ready, complete, oldest_at, oldest_run, oldest_step, workers from longhaul.queue_lines($1, $2)",
                &[&tenant, &COUNTED],
            )
            .await?;
        readable(&rows, |row| {
            let since: Option<DateTime<Utc>> = row.try_get("oldest_at")?;
            let oldest = match since.zip(row.try_get("oldest_run")?) {
                Some((since, run_id)) => Some(OldestReady {
                    since,
                    run_id,
                    step: row.try_get::<Option<_>>("oldest_step")?.unwrap_or_default(),
                }),
                None => None,
            };
            Ok(QueueLine {
                queue: row.try_get("queue")?,
                handler: row.try_get("handler")?,
                ready: Counted { count: row.try_get("ready")?, more: !row.try_get::<bool>("complete")? },
                oldest,
                workers: row.try_get("workers")?,
            })
        })
    }

    /// What a tenant's workers did in the last so many minutes, of one queue if asked, in pieces of so many minutes; the oldest first.
    pub async fn throughput(
        &self,
        tenant: &str,
        queue: Option<&str>,
        minutes: i32,
        width: i32,
    ) -> Result<Vec<Throughput>> {
        let rows = self
            .rows(
                "select at, claimed, completed, failed, ready, oldest_ms from longhaul.throughput_of($1, $2, $3, $4)",
                &[&tenant, &queue, &minutes, &width],
            )
            .await?;
        every(&rows, |row| {
            Ok(Throughput {
                at: row.try_get("at")?,
                claimed: row.try_get("claimed")?,
                completed: row.try_get("completed")?,
                failed: row.try_get("failed")?,
                ready: row.try_get("ready")?,
                oldest_ms: row.try_get("oldest_ms")?,
            })
        })
    }

    /// How many dead letters, open questions, and living workers a tenant has.
    pub async fn attention_counts(&self, tenant: &str) -> Result<(Counted, Counted, i64)> {
        let row = self
            .row(
                "select (select count(*) from (select from longhaul.dead_letters d where d.tenant = $1 limit $2) x),
                        (select count(*) from (select from longhaul.questions q where q.tenant = $1 limit $2) x),
                        (select count(*) from longhaul.worker w where w.tenant = $1 and w.state in ('active', 'draining'))",
                &[&tenant, &COUNTED],
            )
            .await?;
        let counted = |count: i64| Counted { count, more: count >= COUNTED };
        Ok((counted(row.try_get(0)?), counted(row.try_get(1)?), row.try_get(2)?))
    }

    /// How many live runs each version of a flow has, by version, among the newest [`COUNTED`] steps of each room.
    pub async fn counted_live_versions(&self, tenant: &str, flow: &str) -> Result<Vec<(i32, Counted)>> {
        let rows = self
            .rows("select version, runs, complete from longhaul.live_versions($1, $2, $3)", &[&tenant, &flow, &COUNTED])
            .await?;
        readable(&rows, |row| {
            let runs = Counted { count: row.try_get("runs")?, more: !row.try_get::<bool>("complete")? };
            Ok((row.try_get("version")?, runs))
        })
    }

    /// The tenants that have flows, by name.
    pub async fn tenants(&self) -> Result<Vec<String>> {
        let rows = self.rows("select distinct tenant from longhaul.queue order by tenant", &[]).await?;
        readable(&rows, |row| row.try_get(0))
    }
}
