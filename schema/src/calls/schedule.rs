//! Schedules.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, Row, readable};
use crate::{Error, Payload, Result};

/// What happens to ticks that passed while no scheduler ran, or the schedule was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are skipped.
    #[default]
    Skip,
    /// One run makes up for all of them.
    Once,
    /// Each has its run, but of more than 1,000 only the last 1,000.
    All,
}

/// What happens to a tick while the run of an earlier one lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Another run starts beside it.
    #[default]
    Allow,
    /// The tick is skipped.
    Skip,
    /// Its run waits for the one before.
    Queue,
}

impl Missed {
    /// The word that the database uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }
}

impl Overlap {
    /// The word that the database uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
            Self::Queue => "queue",
        }
    }
}

impl std::str::FromStr for Missed {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        [Self::Skip, Self::Once, Self::All]
            .into_iter()
            .find(|m| m.as_str() == word)
            .ok_or_else(|| Error::Invalid(format!("{word:?}: missed ticks are skip, once or all")))
    }
}

impl std::str::FromStr for Overlap {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        [Self::Allow, Self::Skip, Self::Queue]
            .into_iter()
            .find(|o| o.as_str() == word)
            .ok_or_else(|| Error::Invalid(format!("{word:?}: overlap is allow, skip or queue")))
    }
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct ScheduleInfo {
    /// Its id in this database.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Cron expression.
    pub cron: String,
    /// Time zone, by its IANA name.
    pub zone: String,
    /// The flow that it starts.
    pub flow: String,
    /// Its version; the latest at each tick when `None`.
    pub version: Option<i32>,
    /// Input of its runs.
    pub input: Payload,
    /// What happens to missed ticks.
    pub missed: Missed,
    /// What happens while an earlier run lives.
    pub overlap: Overlap,
    /// Each run starts up to so many milliseconds after its tick, at random.
    pub jitter_ms: i64,
    /// No tick before.
    pub starts_at: Option<DateTime<Utc>>,
    /// No tick after.
    pub ends_at: Option<DateTime<Utc>>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// The next tick; `None` when none will come.
    pub next_at: Option<DateTime<Utc>>,
    /// The last tick.
    pub last_at: Option<DateTime<Utc>>,
    /// Why the run of the last tick could not be started; `None` once one was.
    pub last_error: Option<String>,
    /// How many of the ticks that are remembered could not start a run; the view `failed_ticks` has their reasons.
    pub failed_ticks: i64,
    /// The tick whose start met something that passes: it is fired, however late that is.
    pub tried_tick: Option<DateTime<Utc>>,
}

/// A due schedule whose row cannot be read, as when it was made by hand.
#[derive(Clone, Debug)]
pub struct UnreadableSchedule {
    /// Its id in this database.
    pub id: i32,
    /// Why.
    pub reason: String,
}

/// A tick to be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The schedule.
    pub schedule: i32,
    /// Its time, a whole second.
    pub at: DateTime<Utc>,
    /// Whether it only is recorded as missed.
    pub missed: bool,
}

/// What became of a tick.
#[derive(Clone, Debug)]
pub struct FiredTick {
    /// Its time.
    pub tick: DateTime<Utc>,
    /// When it was fired.
    pub fired_at: DateTime<Utc>,
    /// `started`, `queued`, `skipped`, `missed` or `failed`.
    pub outcome: String,
    /// The run that it started.
    pub run_id: Option<Uuid>,
    /// Why it could not start one.
    pub error: Option<String>,
}

/// Where a schedule goes on.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The schedule.
    pub schedule: i32,
    /// Its last tick, if one has passed.
    pub last: Option<DateTime<Utc>>,
    /// Its next tick.
    pub next: Option<DateTime<Utc>>,
    /// Why it has none, when that is wrong.
    pub error: Option<String>,
}

const COLUMNS: &str = "id, name, cron, zone, flow, version, input, missed, overlap, jitter_ms, starts_at, ends_at, paused_at, next_at, last_at, last_error";

impl<E: Executor> Calls<E> {
    /// Makes or changes a schedule of a tenant; `schedule.id`, `paused_at`, `last_at` and `last_error` are ignored. The caller has
    /// checked the expression.
    pub async fn put_schedule(&self, tenant: &str, schedule: &ScheduleInfo) -> Result<i32> {
        let s = schedule;
        let row = self
            .row(
                "select longhaul.put_schedule($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                &[
                    &tenant,
                    &s.name,
                    &s.cron,
                    &s.zone,
                    &s.flow,
                    &s.version,
                    &Json(s.input.raw()),
                    &s.missed.as_str(),
                    &s.overlap.as_str(),
                    &s.jitter_ms,
                    &s.starts_at,
                    &s.ends_at,
                    &s.next_at,
                ],
            )
            .await?;
        row.try_get(0)
    }

    /// The schedules of a tenant, by name.
    pub async fn list_schedules(&self, tenant: &str) -> Result<Vec<ScheduleInfo>> {
        let sql = format!(
            "select {COLUMNS}, failed_ticks, null::timestamptz as tried_tick from longhaul.schedules where tenant = $1 order by name"
        );
        readable(&self.rows(&sql, &[&tenant]).await?, schedule_info)
    }

    /// Locks schedules with a due tick, but for those that another scheduler is at; `again`: those whose last try failed. Within a
    /// transaction.
    pub async fn due_schedules(&self, limit: i32, again: bool) -> Result<(Vec<ScheduleInfo>, Vec<UnreadableSchedule>)> {
        let sql =
            format!("select {COLUMNS}, 0::bigint as failed_ticks, tried_tick from longhaul.due_schedules($1, $2)");
        let (mut schedules, mut unreadable) = (Vec::new(), Vec::new());
        for row in self.rows(&sql, &[&limit, &again]).await? {
            match schedule_info(&row) {
                Ok(schedule) => schedules.push(schedule),
                Err(error) => {
                    unreadable.push(UnreadableSchedule { id: row.try_get("id")?, reason: error.to_string() });
                }
            }
        }
        Ok((schedules, unreadable))
    }

    /// Locks a schedule if its next tick is this one still, and nobody else is at it.
    pub async fn lock_due_schedule(&self, schedule: i32, tick: Option<DateTime<Utc>>) -> Result<bool> {
        let sql = "select id from longhaul.schedule
            where id = $1 and paused_at is null and date_trunc('second', next_at) is not distinct from coalesce($2, date_trunc('second', next_at))
            for update skip locked";
        Ok(!self.rows(sql, &[&schedule, &tick]).await?.is_empty())
    }

    /// When schedules are to be looked at again after a time, but for those that are due.
    pub async fn next_tick(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let sql = "select least(
            (select min(next_at) from longhaul.schedule where paused_at is null and retry_at is null and next_at > $1),
            (select min(retry_at) from longhaul.schedule where paused_at is null and retry_at is not null and retry_at > $1))";
        self.row(sql, &[&after]).await?.try_get(0)
    }

    /// Fires ticks, each once. Returns how many runs were started.
    pub async fn fire_ticks(&self, ticks: &[Tick]) -> Result<i64> {
        let schedules: Vec<i32> = ticks.iter().map(|t| t.schedule).collect();
        let times: Vec<DateTime<Utc>> = ticks.iter().map(|t| t.at).collect();
        let missed: Vec<bool> = ticks.iter().map(|t| t.missed).collect();
        self.row("select longhaul.fire_ticks($1, $2, $3)", &[&schedules, &times, &missed]).await?.try_get(0)
    }

    /// Sets the next ticks of schedules.
    pub async fn move_schedules(&self, moved: &[Moved]) -> Result<()> {
        let schedules: Vec<i32> = moved.iter().map(|m| m.schedule).collect();
        let lasts: Vec<Option<DateTime<Utc>>> = moved.iter().map(|m| m.last).collect();
        let nexts: Vec<Option<DateTime<Utc>>> = moved.iter().map(|m| m.next).collect();
        let errors: Vec<Option<&str>> = moved.iter().map(|m| m.error.as_deref()).collect();
        self.run("select longhaul.move_schedules($1, $2, $3, $4)", &[&schedules, &lasts, &nexts, &errors]).await
    }

    /// A schedule could not be looked at, or a tick of it not be fired, for a reason that may pass: it is tried again soon.
    pub async fn postpone_schedule(&self, schedule: i32, tick: Option<DateTime<Utc>>, reason: &str) -> Result<()> {
        self.run("select longhaul.postpone_schedule($1, $2, $3)", &[&schedule, &tick, &reason]).await
    }

    /// Pauses a schedule. False when it was paused already.
    pub async fn pause_schedule(&self, tenant: &str, name: &str) -> Result<bool> {
        self.row("select longhaul.pause_schedule($1, $2)", &[&tenant, &name]).await?.try_get(0)
    }

    /// Lets a schedule go on. False when it was not paused.
    pub async fn resume_schedule(&self, tenant: &str, name: &str) -> Result<bool> {
        self.row("select longhaul.resume_schedule($1, $2)", &[&tenant, &name]).await?.try_get(0)
    }

    /// Runs a schedule now. `None` when the run before still lives and the schedule says to skip.
    pub async fn run_schedule(&self, tenant: &str, name: &str) -> Result<Option<Uuid>> {
        self.row("select longhaul.run_schedule($1, $2)", &[&tenant, &name]).await?.try_get(0)
    }

    /// Fires ticks of the past that started no run. Returns how many runs were started or queued.
    pub async fn backfill_schedule(&self, tenant: &str, name: &str, ticks: &[DateTime<Utc>]) -> Result<i64> {
        self.row("select longhaul.backfill_schedule($1, $2, $3)", &[&tenant, &name, &ticks]).await?.try_get(0)
    }

    /// Deletes a schedule and the record of its ticks; its runs stay.
    pub async fn delete_schedule(&self, tenant: &str, name: &str) -> Result<()> {
        self.run("select longhaul.delete_schedule($1, $2)", &[&tenant, &name]).await
    }

    /// What became of a schedule's ticks, the latest first: those before a time, if one is given; at most `limit`.
    pub async fn list_ticks(
        &self,
        tenant: &str,
        name: &str,
        before: Option<DateTime<Utc>>,
        limit: i64,
    ) -> Result<Vec<FiredTick>> {
        let rows = self
            .rows(
                "select t.tick, t.fired_at, t.outcome, t.run_id, t.error from longhaul.schedule s join longhaul.schedule_tick t on t.schedule_id = s.id
                 where s.tenant = $1 and s.name = $2 and ($3::timestamptz is null or t.tick < $3) order by t.tick desc limit $4",
                &[&tenant, &name, &before, &limit],
            )
            .await?;
        readable(&rows, |row| {
            Ok(FiredTick {
                tick: row.try_get("tick")?,
                fired_at: row.try_get("fired_at")?,
                outcome: row.try_get("outcome")?,
                run_id: row.try_get("run_id")?,
                error: row.try_get("error")?,
            })
        })
    }

    /// The time by which everything is decided.
    pub async fn clock(&self) -> Result<DateTime<Utc>> {
        self.row("select longhaul.clock()", &[]).await?.try_get(0)
    }
}

fn schedule_info(row: &Row) -> Result<ScheduleInfo> {
    Ok(ScheduleInfo {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        cron: row.try_get("cron")?,
        zone: row.try_get("zone")?,
        flow: row.try_get("flow")?,
        version: row.try_get("version")?,
        input: row.try_get::<Option<Payload>>("input")?.unwrap_or_else(Payload::null),
        missed: row.try_get::<&str>("missed")?.parse()?,
        overlap: row.try_get::<&str>("overlap")?.parse()?,
        jitter_ms: row.try_get("jitter_ms")?,
        starts_at: row.try_get("starts_at")?,
        ends_at: row.try_get("ends_at")?,
        paused_at: row.try_get("paused_at")?,
        next_at: row.try_get("next_at")?,
        last_at: row.try_get("last_at")?,
        last_error: row.try_get("last_error")?,
        failed_ticks: row.try_get("failed_ticks")?,
        tried_tick: row.try_get("tried_tick")?,
    })
}
