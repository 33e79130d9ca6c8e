//! What an operator asks of an installation: is it sound, is it served, how is it set?

use serde::Serialize;
use uuid::Uuid;

use super::{Calls, Executor, readable};
use crate::{Error, Result};

/// How many rows the rooms hold, and how many workers live.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Ready steps.
    pub ready: i64,
    /// Running steps.
    pub running: i64,
    /// Sleeping steps.
    pub waiting: i64,
    /// Living workers.
    pub workers: i64,
}

impl<E: Executor> Calls<E> {
    /// Violations of "a live step is in exactly one room", as sentences. There are none unless something is broken.
    pub async fn room_violations(&self) -> Result<Vec<String>> {
        let rows = self.rows("select run_id, seq, violation from longhaul.room_violations limit 100", &[]).await?;
        readable(&rows, |row| {
            let step = row.try_get::<Option<i32>>(1)?.map(|seq| format!(" step {seq}")).unwrap_or_default();
            Ok(format!("run {}{step}: {}", row.try_get::<Uuid>(0)?, row.try_get::<String>(2)?))
        })
    }

    /// Chores that are late by more than a minute, or whose last run failed.
    pub async fn overdue_chores(&self) -> Result<Vec<String>> {
        let rows = self
            .rows(
                "select name from longhaul.chore where next_at < longhaul.clock() - interval '1 minute' or last_done is null and failures > 0 order by name",
                &[],
            )
            .await?;
        readable(&rows, |row| row.try_get(0))
    }

    /// Handlers and queues with ready steps that no living worker takes, with how many wait.
    pub async fn unserved_lanes(&self) -> Result<Vec<String>> {
        let rows = self
            .rows("select handler, name, ready from longhaul.queues where ready > 0 and workers = 0 order by ready desc limit 20", &[])
            .await?;
        readable(&rows, |row| {
            let (handler, queue, ready): (&str, &str, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(format!("handler {handler} from queue {queue} ({ready} ready)"))
        })
    }

    /// Age in seconds of the oldest transaction that keeps dead rows from being removed, this one excepted.
    pub async fn oldest_transaction(&self) -> Result<Option<f64>> {
        let row = self
            .row(
                "select extract(epoch from max(clock_timestamp() - xact_start))::float8 from pg_stat_activity
                 where (backend_xmin is not null or backend_xid is not null) and pid <> pg_backend_pid() and backend_type = 'client backend'",
                &[],
            )
            .await?;
        row.try_get(0)
    }

    /// A setting of the installation, such as `max_payload_bytes`.
    pub async fn setting(&self, name: &str) -> Result<i64> {
        let row = self.row("select longhaul.setting_value($1)", &[&name]).await?;
        row.try_get::<Option<i64>>(0)?.ok_or_else(|| Error::NotFound(format!("there is no setting named {name}")))
    }

    /// Changes a setting of the installation.
    pub async fn set_setting(&self, name: &str, value: i64) -> Result<()> {
        self.run("select longhaul.set_setting($1, $2)", &[&name, &value]).await
    }

    /// How full the rooms are. Counts rows.
    pub async fn figures(&self) -> Result<Figures> {
        let row = self
            .row(
                "select (select count(*) from longhaul.task), (select count(*) from longhaul.lease), (select count(*) from longhaul.timer),
                        (select count(*) from longhaul.worker where state in ('active', 'draining'))",
                &[],
            )
            .await?;
        Ok(Figures {
            ready: row.try_get(0)?,
            running: row.try_get(1)?,
            waiting: row.try_get(2)?,
            workers: row.try_get(3)?,
        })
    }
}
