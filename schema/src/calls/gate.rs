//! Keys of bounded concurrency, and who waits at them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{COUNTED, Calls, Counted, Executor, readable};
use crate::Result;

/// A key of bounded concurrency.
#[derive(Clone, Debug)]
pub struct GateInfo {
    /// Name of the limit.
    pub name: String,
    /// The key; empty for a limit without keys.
    pub key: String,
    /// How many of its steps may run at once.
    pub most: i32,
    /// How many run or may run.
    pub used: i32,
    /// How many wait for their turn.
    pub queued: Counted,
}

/// A step that waits for its turn at a key.
#[derive(Clone, Debug)]
pub struct QueuedStep {
    /// Its run.
    pub run_id: Uuid,
    /// Its name.
    pub step: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// Lower goes first.
    pub priority: i16,
}

impl<E: Executor> Calls<E> {
    /// Keys of bounded concurrency of a tenant, by name and key, of one limit if asked, behind `after`; at most `limit`.
    pub async fn list_gates(
        &self,
        tenant: &str,
        name: Option<&str>,
        after: Option<(&str, &str)>,
        limit: i32,
    ) -> Result<Vec<GateInfo>> {
        let (after_name, after_key) = after.unzip();
        let rows = self
            .rows(
                "select name, key, most, used, queued, complete from longhaul.busy_gates($1, $2, $3, $4, $5, $6)",
                &[&tenant, &name, &after_name, &after_key, &limit, &COUNTED],
            )
            .await?;
        readable(&rows, |row| {
            Ok(GateInfo {
                name: row.try_get("name")?,
                key: row.try_get("key")?,
                most: row.try_get("most")?,
                used: row.try_get("used")?,
                queued: Counted { count: row.try_get("queued")?, more: !row.try_get::<bool>("complete")? },
            })
        })
    }

    /// The steps that wait at a key of bounded concurrency, the next one first; at most `limit`.
    pub async fn queued_at(&self, tenant: &str, name: &str, key: &str, limit: i64) -> Result<Vec<QueuedStep>> {
        let rows = self
            .rows(
                "select q.run_id, longhaul.step_label(q.run_id, f.name, q.seq, s.def) as step, longhaul.time_of(q.position) as since, q.priority
                 from (
                   select x.* from longhaul.gate g join longhaul.queued x on x.gate_id = g.id
                   where g.tenant = $1 and g.name = $2 and g.key = $3 order by x.priority, x.position limit $4) q
                 cross join lateral (select x.flow_id from longhaul.run x where x.id = q.run_id offset 0) r
                 cross join lateral (select longhaul.def_of(q.run_id, q.seq) as def offset 0) s
                 join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, q.seq)
                 order by q.priority, q.position",
                &[&tenant, &name, &key, &limit],
            )
            .await?;
        readable(&rows, |row| {
            Ok(QueuedStep {
                run_id: row.try_get("run_id")?,
                step: row.try_get("step")?,
                since: row.try_get("since")?,
                priority: row.try_get("priority")?,
            })
        })
    }
}
