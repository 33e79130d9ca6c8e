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
    /// Each has its run, at most the last 1,000.
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
    /// Why the last run could not be started that could not.
    pub last_error: Option<String>,
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
        let sql = format!("select {COLUMNS} from longhaul.schedules where tenant = $1 order by name");
        readable(&self.rows(&sql, &[&tenant]).await?, schedule_info)
    }

    /// Locks schedules with a due tick, but for those that another scheduler is at. Within a transaction.
    pub async fn due_schedules(&self, limit: i32) -> Result<Vec<ScheduleInfo>> {
        let sql = format!("select {COLUMNS} from longhaul.due_schedules($1)");
        readable(&self.rows(&sql, &[&limit]).await?, schedule_info)
    }

    /// When the next tick of any schedule is, but for those that are due.
    pub async fn next_tick(&self) -> Result<Option<DateTime<Utc>>> {
        let sql = "select min(next_at) from longhaul.schedule where paused_at is null and next_at > longhaul.clock()";
        self.row(sql, &[]).await?.try_get(0)
    }

    /// Fires a tick once. Returns the run that it started.
    pub async fn fire_tick(&self, schedule: i32, tick: DateTime<Utc>, missed: bool) -> Result<Option<Uuid>> {
        self.row("select longhaul.fire_tick($1, $2, $3)", &[&schedule, &tick, &missed]).await?.try_get(0)
    }

    /// Sets the next tick of a schedule.
    pub async fn move_schedule(
        &self,
        schedule: i32,
        last: Option<DateTime<Utc>>,
        next: Option<DateTime<Utc>>,
    ) -> Result<()> {
        self.run("select longhaul.move_schedule($1, $2, $3)", &[&schedule, &last, &next]).await
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

    /// Deletes a schedule and the record of its ticks; its runs stay.
    pub async fn delete_schedule(&self, tenant: &str, name: &str) -> Result<()> {
        self.run("select longhaul.delete_schedule($1, $2)", &[&tenant, &name]).await
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
    })
}
