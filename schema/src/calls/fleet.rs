//! Who works here: workers, what they hold, and what they can do.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor};
use crate::Result;

/// A registered worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its id.
    pub id: i64,
    /// Its name, for people.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: i32,
    /// active, draining, lost or gone.
    pub state: String,
    /// Since when it is there.
    pub started_at: DateTime<Utc>,
    /// When it last said that it lives.
    pub heartbeat_at: DateTime<Utc>,
    /// When its leases expire unless it says so again.
    pub expires_at: DateTime<Utc>,
    /// Its queues.
    pub queues: Vec<String>,
    /// What it can do.
    pub handlers: Vec<String>,
    /// How many steps it holds.
    pub running: i64,
}

/// A step in flight.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The run.
    pub run_id: Uuid,
    /// The step's name.
    pub step: String,
    /// Number of the attempt.
    pub attempt: i32,
    /// Its worker.
    pub worker_id: i64,
    /// The worker's name, if it is known still.
    pub worker: Option<String>,
    /// The worker's machine.
    pub host: Option<String>,
    /// Since when.
    pub claimed_at: DateTime<Utc>,
    /// Until when at least.
    pub expires_at: Option<DateTime<Utc>>,
}

impl<E: Executor> Calls<E> {
    /// The workers of a tenant, newest first; those that left as well, if they are asked for.
    pub async fn workers(&self, tenant: &str, all: bool) -> Result<Vec<WorkerInfo>> {
        let rows = self
            .rows(
                "select id, name, host, pid, state::text, started_at, heartbeat_at, expires_at, queues, handlers, running from longhaul.workers
                 where tenant = $1 and ($2 or state in ('active', 'draining')) order by id desc limit 1000",
                &[&tenant, &all],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(WorkerInfo {
                    id: row.try_get(0)?,
                    name: row.try_get(1)?,
                    host: row.try_get(2)?,
                    pid: row.try_get(3)?,
                    state: row.try_get(4)?,
                    started_at: row.try_get(5)?,
                    heartbeat_at: row.try_get(6)?,
                    expires_at: row.try_get(7)?,
                    queues: row.try_get(8)?,
                    handlers: row.try_get(9)?,
                    running: row.try_get(10)?,
                })
            })
            .collect()
    }

    /// The steps of a tenant that are in flight, longest first.
    pub async fn leases(&self, tenant: &str, limit: i64) -> Result<Vec<LeaseInfo>> {
        let rows = self
            .rows(
                "select l.run_id, l.step, l.attempt, l.worker_id, l.worker, l.host, l.claimed_at, l.expires_at from longhaul.leases l
                 join longhaul.run r on r.id = l.run_id where r.tenant = $1 order by l.claimed_at limit $2",
                &[&tenant, &limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(LeaseInfo {
                    run_id: row.try_get(0)?,
                    step: row.try_get(1)?,
                    attempt: row.try_get(2)?,
                    worker_id: row.try_get(3)?,
                    worker: row.try_get(4)?,
                    host: row.try_get(5)?,
                    claimed_at: row.try_get(6)?,
                    expires_at: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// The names of all handlers that a worker of the tenant has registered, as long as its row is kept.
    pub async fn registered_handlers(&self, tenant: &str) -> Result<Vec<String>> {
        let rows = self
            .rows(
                "select distinct h from longhaul.worker w cross join lateral unnest(w.handlers) h where w.tenant = $1 order by h",
                &[&tenant],
            )
            .await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<std::result::Result<_, _>>()?)
    }
}
