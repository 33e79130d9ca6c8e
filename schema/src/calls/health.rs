//! What an operator asks of an installation: is it sound, is it served, how is it set?

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Calls, Executor, readable};
use crate::{Error, Result};

/// How many rows the rooms hold, and how many workers live.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// Ready steps.
    pub ready: i64,
    /// Running steps.
    pub running: i64,
    /// Sleeping steps.
    pub sleeping: i64,
    /// Steps that wait for a signal, a decision, a child run, their items or a time.
    pub waiting: i64,
    /// Steps that are kept back because their runs are paused.
    pub paused: i64,
    /// Steps that wait for others of their key.
    pub queued: i64,
    /// Living workers.
    pub workers: i64,
}

/// Something whose time has come and that was not done.
#[derive(Clone, Debug)]
pub struct Overdue {
    /// `timer`, `wait`, `deadline`, `lease`, `schedule` or `chore`.
    pub kind: String,
    /// Its run.
    pub run_id: Option<Uuid>,
    /// Its step.
    pub seq: Option<i32>,
    /// The name of the schedule or chore, or what kind of timer or wait it is.
    pub item: Option<String>,
    /// When its time came.
    pub since: DateTime<Utc>,
    /// Why it was not done.
    pub reason: String,
}

/// Somebody who keeps the server from removing dead rows.
#[derive(Clone, Debug)]
pub struct HorizonPin {
    /// `session`, `prepared transaction`, `replication slot` or `standby`.
    pub kind: String,
    /// Who it is: process, user and application, or the name.
    pub name: String,
    /// `idle in transaction`, `inactive`, …
    pub state: Option<String>,
    /// Seconds since its transaction began; `None` where the server does not say.
    pub seconds: Option<f64>,
    /// Transactions that have begun since the one that it holds on to.
    pub transactions: Option<i64>,
    /// What it did last.
    pub query: Option<String>,
    /// The server's process.
    pub pid: Option<i32>,
    /// Its user of the database.
    pub username: Option<String>,
    /// What ends it.
    pub remedy: String,
}

/// A call that waits for a lock.
#[derive(Clone, Debug)]
pub struct BlockedCall {
    /// Server process.
    pub pid: i32,
    /// The call.
    pub query: String,
    /// For how many seconds.
    pub seconds: f64,
    /// Who holds the lock.
    pub held_by: String,
}

/// What goes on no more until somebody does something.
#[derive(Clone, Debug, Default)]
pub struct Dormant {
    /// Steps that used up their attempts; counted up to 10,000.
    pub dead_letters: i64,
    /// Queues that are paused.
    pub paused_queues: Vec<String>,
    /// Schedules of whose last hundred ticks some failed, with the error of the newest of them.
    pub failed_schedules: Vec<String>,
    /// Items that chores have set aside, with the reasons; at most 20.
    pub set_aside: Vec<String>,
}

/// A table that autovacuum should have come to.
#[derive(Clone, Debug)]
pub struct VacuumLag {
    /// The table.
    pub table: String,
    /// Dead rows, as the server estimates them.
    pub dead: i64,
    /// From so many on autovacuum comes.
    pub due: i64,
    /// When it was vacuumed last.
    pub vacuumed_at: Option<DateTime<Utc>>,
}

/// A table that holds more dead rows than live ones, and many of them.
#[derive(Clone, Debug)]
pub struct Swollen {
    /// The table.
    pub table: String,
    /// Dead rows, as the server estimates them.
    pub dead: i64,
    /// Live rows, as the server estimates them.
    pub live: i64,
    /// When it was vacuumed last.
    pub vacuumed_at: Option<DateTime<Utc>>,
}

impl<E: Executor> Calls<E> {
    /// Violations of "a live step is in exactly one room", as sentences. There are none unless something is broken.
    pub async fn room_violations(&self) -> Result<Vec<String>> {
        let rows = self.rows("select run_id, seq, violation from longhaul.room_violations limit 100", &[]).await?;
        readable(&rows, |row| {
            let run = row.try_get::<Option<Uuid>>(0)?.map(|run| format!("run {run}")).unwrap_or_default();
            let step = row.try_get::<Option<i32>>(1)?.map(|seq| format!(" step {seq}")).unwrap_or_default();
            let place = format!("{run}{step}");
            let colon = if place.is_empty() { "" } else { ": " };
            Ok(format!("{place}{colon}{}", row.try_get::<String>(2)?))
        })
    }

    /// Whether the server is a standby, which can be read but not checked in all.
    pub async fn is_standby(&self) -> Result<bool> {
        self.row("select pg_is_in_recovery()", &[]).await?.try_get(0)
    }

    /// Chores that are late by more than a minute, or whose last run failed.
    pub async fn overdue_chores(&self) -> Result<Vec<String>> {
        let rows = self
            .rows(
                "select name from longhaul.chore
                 where next_at < (select longhaul.present()) - interval '1 minute' or last_done is null and failures > 0 order by name",
                &[],
            )
            .await?;
        readable(&rows, |row| row.try_get(0))
    }

    /// What should have happened by now and has not, the longest overdue first; at most `limit`.
    pub async fn overdue(&self, limit: i64) -> Result<Vec<Overdue>> {
        let rows = self
            .rows(
                "select kind, run_id, seq, item, since, reason
                 from (select * from longhaul.overdue limit 10000) o order by since limit $1",
                &[&limit],
            )
            .await?;
        readable(&rows, |row| {
            Ok(Overdue {
                kind: row.try_get("kind")?,
                run_id: row.try_get("run_id")?,
                seq: row.try_get("seq")?,
                item: row.try_get("item")?,
                since: row.try_get("since")?,
                reason: row.try_get("reason")?,
            })
        })
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

    /// Who keeps dead rows of this database from being removed, this session excepted, the longest first.
    pub async fn horizon_pins(&self) -> Result<Vec<HorizonPin>> {
        let rows = self
            .rows(
                "select kind, name, state, extract(epoch from clock_timestamp() - since)::float8 as seconds, transactions, query, pid, username, remedy
                 from longhaul.horizon_pins order by since nulls last, transactions desc",
                &[],
            )
            .await?;
        readable(&rows, |row| {
            Ok(HorizonPin {
                kind: row.try_get("kind")?,
                name: row.try_get("name")?,
                state: row.try_get("state")?,
                seconds: row.try_get("seconds")?,
                transactions: row.try_get("transactions")?,
                query: row.try_get("query")?,
                pid: row.try_get("pid")?,
                username: row.try_get("username")?,
                remedy: row.try_get("remedy")?,
            })
        })
    }

    /// Whether this user is shown what the sessions of others do.
    pub async fn sees_all_sessions(&self) -> Result<bool> {
        self.row("select pg_has_role('pg_read_all_stats', 'usage')", &[]).await?.try_get(0)
    }

    /// Calls in this database that wait for a lock, the longest first.
    pub async fn blocked_calls(&self) -> Result<Vec<BlockedCall>> {
        let rows = self
            .rows(
                "select pid, query, extract(epoch from clock_timestamp() - since)::float8 as seconds, held_by
                 from longhaul.blocked_calls order by since",
                &[],
            )
            .await?;
        readable(&rows, |row| {
            Ok(BlockedCall {
                pid: row.try_get("pid")?,
                query: row.try_get("query")?,
                seconds: row.try_get("seconds")?,
                held_by: row.try_get("held_by")?,
            })
        })
    }

    /// What goes on no more until somebody does something.
    pub async fn dormant(&self) -> Result<Dormant> {
        let row = self
            .row(
                "select (select count(*) from (select from longhaul.dead_letter limit 10000) d),
                        array(select name from longhaul.queue where paused_at is not null order by name limit 20),
                        array(select s.name || coalesce(' (' || t.error || ')', '')
                              from longhaul.schedule s
                              cross join lateral (
                                select f.error, f.tick
                                from (select x.outcome, x.error, x.tick from longhaul.schedule_tick x where x.schedule_id = s.id order by x.tick desc limit 100) f
                                where f.outcome = 'failed' order by f.tick desc limit 1) t
                              order by s.name limit 20),
                        array(select format('%s %s (%s tries): %s', kind, item, tries, error) from longhaul.set_aside order by since limit 20)",
                &[],
            )
            .await?;
        Ok(Dormant {
            dead_letters: row.try_get(0)?,
            paused_queues: row.try_get(1)?,
            failed_schedules: row.try_get(2)?,
            set_aside: row.try_get(3)?,
        })
    }

    /// Tables of the rooms and of the history that autovacuum should have come to and has not, with how far they are beyond what calls it:
    /// name, dead rows, the number of dead rows from which on it comes, and when it last came.
    pub async fn vacuum_lag(&self) -> Result<Vec<VacuumLag>> {
        let rows = self
            .rows(
                "select s.relname::text as name, s.n_dead_tup as dead, t.due::bigint as due, greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at
                 from pg_stat_user_tables s
                 join pg_class c on c.oid = s.relid
                 cross join lateral (
                   select coalesce((select o.option_value::float8 from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_vacuum_threshold'),
                                   current_setting('autovacuum_vacuum_threshold')::float8)
                        + coalesce((select o.option_value::float8 from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_vacuum_scale_factor'),
                                   current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0) as due) t
                 where c.relnamespace = (select x.relnamespace from pg_class x where x.oid = 'longhaul.task'::regclass) and s.n_dead_tup > 2 * t.due
                 order by s.n_dead_tup desc limit 20",
                &[],
            )
            .await?;
        readable(&rows, |row| {
            Ok(VacuumLag {
                table: row.try_get("name")?,
                dead: row.try_get("dead")?,
                due: row.try_get("due")?,
                vacuumed_at: row.try_get("vacuumed_at")?,
            })
        })
    }

    /// Rooms in which dead rows pile up, because autovacuum does not come, or may not remove them.
    pub async fn swollen_tables(&self) -> Result<Vec<Swollen>> {
        let rows = self
            .rows(
                "select s.relname::text as name, s.n_dead_tup, s.n_live_tup, greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at
                 from pg_stat_user_tables s
                 where s.relid in (select c.inhrelid from pg_inherits c where c.inhparent = 'longhaul.run'::regclass
                                   union all select r.t from unnest(array['longhaul.task', 'longhaul.lease', 'longhaul.own_step', 'longhaul.blocked', 'longhaul.timer', 'longhaul.wait',
                                     'longhaul.held', 'longhaul.queued', 'longhaul.worker', 'longhaul.chore', 'longhaul.queue', 'longhaul.notice']::regclass[]) r(t))
                   and s.n_dead_tup > 100000 and s.n_dead_tup > s.n_live_tup
                 order by s.n_dead_tup desc limit 20",
                &[],
            )
            .await?;
        readable(&rows, |row| {
            Ok(Swollen {
                table: row.try_get("name")?,
                dead: row.try_get("n_dead_tup")?,
                live: row.try_get("n_live_tup")?,
                vacuumed_at: row.try_get("vacuumed_at")?,
            })
        })
    }

    /// Tables of the history whose partitions end soon, or in whose default partition rows stand, as sentences.
    pub async fn partition_troubles(&self) -> Result<Vec<String>> {
        let rows = self
            .rows(
                "select case when a.id is not null then format('rows of table %s stand outside its partitions', t.name)
                             else format('the last partition of table %s ends on %s', t.name, coalesce(p.ends::date::text, 'no day: there is none')) end
                 from unnest(longhaul.history_tables()) t(name)
                 cross join lateral longhaul.astray(t.name, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 0) a(id)
                 cross join lateral (select max(longhaul.time_of_id(x.to_id)) as ends from longhaul.partitions_of('longhaul.' || t.name) x) p
                 where a.id is not null or p.ends is null or p.ends < clock_timestamp() + interval '2 days'",
                &[],
            )
            .await?;
        readable(&rows, |row| row.try_get(0))
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
                        (select count(*) from (select distinct run_id, seq from longhaul.wait) w), (select count(*) from longhaul.held),
                        (select count(*) from longhaul.queued), (select count(*) from longhaul.worker where state in ('active', 'draining'))",
                &[],
            )
            .await?;
        Ok(Figures {
            ready: row.try_get(0)?,
            running: row.try_get(1)?,
            sleeping: row.try_get(2)?,
            waiting: row.try_get(3)?,
            paused: row.try_get(4)?,
            queued: row.try_get(5)?,
            workers: row.try_get(6)?,
        })
    }
}
