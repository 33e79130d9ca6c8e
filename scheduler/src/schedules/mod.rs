//! Schedules: cron expressions that start runs. Whichever scheduler finds a tick due fires it; the key of (schedule, tick) in
//! the database makes that one run, however many schedulers there are.

mod fire;
mod plan;

use std::time::Duration;

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Database, Payload,
    calls::{Missed, Overlap, ScheduleInfo},
    duration::millis,
};
use serde::Serialize;

use self::plan::Ticks;
use crate::Error;

pub(crate) use fire::run;

/// A schedule to be made or changed.
///
/// ```no_run
/// # async fn run(client: longhaul_scheduler::Client) -> Result<(), longhaul_scheduler::Error> {
/// use longhaul_scheduler::{Overlap, Schedule};
///
/// let nightly = Schedule::new("nightly", "0 3 * * *", "report").zone("Europe/Berlin").overlap(Overlap::Skip);
/// client.schedule(&nightly.input(&"all regions")?).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    info: ScheduleInfo,
}

impl Schedule {
    /// Starts runs of a flow at the ticks of a cron expression, in UTC.
    pub fn new(name: impl Into<String>, cron: impl Into<String>, flow: impl Into<String>) -> Self {
        let info = ScheduleInfo {
            id: 0,
            name: name.into(),
            cron: cron.into(),
            zone: "UTC".into(),
            flow: flow.into(),
            version: None,
            input: Payload::null(),
            missed: Missed::default(),
            overlap: Overlap::default(),
            jitter_ms: 0,
            starts_at: None,
            ends_at: None,
            paused_at: None,
            next_at: None,
            last_at: None,
            last_error: None,
            failed_ticks: 0,
            tried_tick: None,
        };
        Self { info }
    }

    /// In this time zone, by its IANA name.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.info.zone = zone.into();
        self
    }

    /// With this input.
    pub fn input(mut self, input: &impl Serialize) -> Result<Self, Error> {
        self.info.input = Payload::new(input)?;
        Ok(self)
    }

    /// With an input that is JSON already.
    pub fn payload(mut self, input: Payload) -> Self {
        self.info.input = input;
        self
    }

    /// Runs of this version of the flow; the latest at each tick otherwise.
    pub fn version(mut self, version: i32) -> Self {
        self.info.version = Some(version);
        self
    }

    /// What happens to ticks that passed while no scheduler ran or the schedule was paused.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.info.missed = missed;
        self
    }

    /// What happens to a tick while the run of an earlier one lives.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.info.overlap = overlap;
        self
    }

    /// Each run starts up to this time after its tick, at random; the run of a queued tick when its turn comes.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.info.jitter_ms = millis(most);
        self
    }

    /// No tick before this time.
    pub fn starts_at(mut self, time: DateTime<Utc>) -> Self {
        self.info.starts_at = Some(time);
        self
    }

    /// No tick after this time.
    pub fn ends_at(mut self, time: DateTime<Utc>) -> Self {
        self.info.ends_at = Some(time);
        self
    }

    /// Stores it; its first tick is the first one after now.
    pub(crate) async fn put(mut self, database: &Database) -> Result<(), Error> {
        let now = database.retrying(|calls| async move { calls.clock().await }).await?;
        self.info.next_at = Ticks::of(&self.info)?.next(now);
        let (tenant, info) = (database.tenant(), &self.info);
        database.retrying(|calls| async move { calls.put_schedule(tenant, info).await }).await.map(|_| ())
    }
}

/// The next ticks of a schedule after a time, at most so many.
pub fn upcoming(schedule: &ScheduleInfo, after: DateTime<Utc>, most: usize) -> Result<Vec<DateTime<Utc>>, Error> {
    let ticks = Ticks::of(schedule)?;
    Ok(std::iter::successors(ticks.next(after), |tick| ticks.next(*tick)).take(most).collect())
}

/// The ticks of a schedule after a time and up to another one, at most so many.
pub fn between(
    schedule: &ScheduleInfo,
    after: DateTime<Utc>,
    to: DateTime<Utc>,
    most: usize,
) -> Result<Vec<DateTime<Utc>>, Error> {
    Ok(Ticks::of(schedule)?.between(after, to, most))
}
