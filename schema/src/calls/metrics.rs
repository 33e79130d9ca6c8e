//! Figures of the installation for metrics: of a bounded number of rows.

use super::{Calls, Executor, readable};
use crate::Result;

/// How a chore is done.
#[derive(Clone, Debug)]
pub struct ChoreFigure {
    /// Its name.
    pub name: String,
    /// How often it was done.
    pub runs: i64,
    /// How often it failed.
    pub failures: i64,
    /// Items that it handled.
    pub done: i64,
    /// How long it took last, in seconds.
    pub seconds: f64,
    /// By how many seconds it is late.
    pub late_seconds: f64,
}

/// How the locks of a phase are used.
#[derive(Clone, Debug)]
pub struct LockFigure {
    /// The tenant.
    pub tenant: String,
    /// The last part of the locks' names.
    pub phase: String,
    /// Acquisitions.
    pub acquired: i64,
    /// How often one was found taken.
    pub blocked: i64,
    /// How often one expired in its holder's hands.
    pub expired: i64,
    /// How often one was forced open.
    pub forced: i64,
    /// For how many seconds they were held.
    pub held_seconds: f64,
}

impl<E: Executor> Calls<E> {
    /// How the chores are done, by name.
    pub async fn chore_figures(&self) -> Result<Vec<ChoreFigure>> {
        let rows = self
            .rows(
                "select c.name, c.runs, c.failures, c.done, coalesce(c.duration_ms, 0)::float8 / 1000 as seconds,
                        greatest(0, extract(epoch from (select longhaul.present()) - c.next_at))::float8 as late_seconds
                 from longhaul.chore c order by c.name",
                &[],
            )
            .await?;
        readable(&rows, |row| {
            Ok(ChoreFigure {
                name: row.try_get("name")?,
                runs: row.try_get("runs")?,
                failures: row.try_get("failures")?,
                done: row.try_get("done")?,
                seconds: row.try_get("seconds")?,
                late_seconds: row.try_get("late_seconds")?,
            })
        })
    }

    /// How locks are used, by tenant and phase, the most used first; at most `limit`.
    pub async fn lock_figures(&self, limit: i64) -> Result<Vec<LockFigure>> {
        let rows = self
            .rows(
                "select f.tenant, f.phase, f.acquired, f.blocked, f.expired, f.forced, f.held_seconds::float8 as held_seconds
                 from longhaul.lock_figures f order by f.acquired desc, f.tenant, f.phase limit $1",
                &[&limit],
            )
            .await?;
        readable(&rows, |row| {
            Ok(LockFigure {
                tenant: row.try_get("tenant")?,
                phase: row.try_get("phase")?,
                acquired: row.try_get("acquired")?,
                blocked: row.try_get("blocked")?,
                expired: row.try_get("expired")?,
                forced: row.try_get("forced")?,
                held_seconds: row.try_get("held_seconds")?,
            })
        })
    }

    /// Workers by tenant and state, but for those that left in good order.
    pub async fn worker_counts(&self) -> Result<Vec<(String, String, i64)>> {
        let rows = self
            .rows(
                "select w.tenant, w.state::text as state, count(*) as count from longhaul.worker w where w.state in ('active', 'draining', 'lost')
                 group by 1, 2 order by 1, 2",
                &[],
            )
            .await?;
        readable(&rows, |row| Ok((row.try_get("tenant")?, row.try_get("state")?, row.try_get("count")?)))
    }

    /// What should have happened by now and has not, by kind: how many, counted up to 10,000 in all, and for how many seconds the oldest.
    pub async fn overdue_counts(&self) -> Result<Vec<(String, i64, f64)>> {
        let rows = self
            .rows(
                "select o.kind, count(*) as count, max(extract(epoch from (select longhaul.present()) - o.since))::float8 as seconds
                 from (select x.kind, x.since from longhaul.overdue x limit 10000) o group by 1 order by 1",
                &[],
            )
            .await?;
        readable(&rows, |row| Ok((row.try_get("kind")?, row.try_get("count")?, row.try_get("seconds")?)))
    }

    /// Items that chores have set aside, by kind.
    pub async fn set_aside_counts(&self) -> Result<Vec<(String, i64)>> {
        let rows =
            self.rows("select a.kind, count(*) as count from longhaul.set_aside a group by 1 order by 1", &[]).await?;
        readable(&rows, |row| Ok((row.try_get("kind")?, row.try_get("count")?)))
    }

    /// For how many seconds the oldest transaction of this database is open.
    pub async fn oldest_transaction(&self) -> Result<f64> {
        let sql = "select coalesce(max(extract(epoch from clock_timestamp() - p.since)), 0)::float8 from longhaul.horizon_pins p";
        self.row(sql, &[]).await?.try_get(0)
    }
}
