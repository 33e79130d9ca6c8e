//! Queues: pausing and limiting them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Calls, Executor, Row, readable};
use crate::{
    Result,
    duration::{from_millis, seconds},
};

/// All limits of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most steps that run at once, over all workers.
    pub max_running: Option<i32>,
    /// Most claims in any period, and the period, at least 100 ms.
    pub rate: Option<(i32, Duration)>,
    /// So many attempts in a row that were deferred or timed out close the queue for this time; then one step at a time tries
    /// until one completes.
    pub breaker: Option<(i32, Duration)>,
}

/// A queue and its limits.
#[derive(Clone, Debug)]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// Since when nothing is claimed from it.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Its limits.
    pub limits: QueueLimits,
    /// Steps that run; counted only while `max_running` is set.
    pub running: Option<i32>,
    /// Until when its breaker keeps it closed.
    pub open_until: Option<DateTime<Utc>>,
    /// Ready steps. Counted: for looking, not for polling.
    pub ready: i64,
}

impl<E: Executor> Calls<E> {
    /// The queues of a tenant, by name.
    pub async fn list_queues(&self, tenant: &str) -> Result<Vec<QueueInfo>> {
        let rows = self
            .rows(
                "select l.name, l.paused_at, l.paused_by, l.max_running, l.running, l.rate_limit, l.rate_ms, l.breaker_failures, l.breaker_ms,
                        l.open_until, coalesce((select sum(q.ready) from longhaul.queues q where q.tenant = l.tenant and q.name = l.name), 0)::bigint as ready
                 from longhaul.queue_limits l where l.tenant = $1 order by l.name",
                &[&tenant],
            )
            .await?;
        readable(&rows, queue_info)
    }

    /// The queues of a tenant, by name, as they are set: their ready steps are not counted.
    pub async fn queue_settings(&self, tenant: &str) -> Result<Vec<QueueInfo>> {
        let rows = self
            .rows(
                "select l.name, l.paused_at, l.paused_by, l.max_running, l.running, l.rate_limit, l.rate_ms, l.breaker_failures, l.breaker_ms,
                        l.open_until, 0::bigint as ready
                 from longhaul.queue_limits l where l.tenant = $1 order by l.name",
                &[&tenant],
            )
            .await?;
        readable(&rows, queue_info)
    }

    /// Pauses a queue: nothing more is claimed from it. False when it was paused already.
    pub async fn pause_queue(&self, tenant: &str, queue: &str, by: Option<&str>) -> Result<bool> {
        self.row("select longhaul.pause_queue($1, $2, $3)", &[&tenant, &queue, &by]).await?.try_get(0)
    }

    /// Lets a queue go on, and closes its breaker. False when it was not paused.
    pub async fn resume_queue(&self, tenant: &str, queue: &str) -> Result<bool> {
        self.row("select longhaul.resume_queue($1, $2)", &[&tenant, &queue]).await?.try_get(0)
    }

    /// Sets all limits of a queue; those that are `None` are taken away.
    pub async fn limit_queue(&self, tenant: &str, queue: &str, limits: &QueueLimits) -> Result<()> {
        let (rate, per) = limits.rate.map(|(n, per)| (n, seconds(per))).unzip();
        let (failures, pause) = limits.breaker.map(|(n, pause)| (n, seconds(pause))).unzip();
        self.run(
            "select longhaul.limit_queue($1, $2, $3, $4, make_interval(secs => $5), $6, make_interval(secs => $7))",
            &[&tenant, &queue, &limits.max_running, &rate, &per, &failures, &pause],
        )
        .await
    }
}

fn queue_info(row: &Row) -> Result<QueueInfo> {
    Ok(QueueInfo {
        name: row.try_get("name")?,
        paused_at: row.try_get("paused_at")?,
        paused_by: row.try_get("paused_by")?,
        limits: QueueLimits {
            max_running: row.try_get("max_running")?,
            rate: row
                .try_get::<Option<i32>>("rate_limit")?
                .zip(row.try_get::<Option<i64>>("rate_ms")?.map(from_millis)),
            breaker: row
                .try_get::<Option<i32>>("breaker_failures")?
                .zip(row.try_get::<Option<i64>>("breaker_ms")?.map(from_millis)),
        },
        running: row.try_get("running")?,
        open_until: row.try_get("open_until")?,
        ready: row.try_get("ready")?,
    })
}
