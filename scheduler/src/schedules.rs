//! Schedules: cron expressions that start runs. Whichever scheduler finds a tick due fires it; the key of (schedule, tick) in
//! the database makes that one run, however many schedulers there are.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use longhaul_schema::{
    Calls, Database, Payload,
    calls::{Missed, Overlap, ScheduleInfo},
    retry::Backoff,
};
use serde::Serialize;

use crate::{Error, cron::CronExpression};

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

    /// Each run starts up to this time after its tick, at random.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.info.jitter_ms = most.as_millis() as i64;
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
        let cron = CronExpression::parse(&self.info.cron, &self.info.zone)?;
        let now = database.retrying(|calls| async move { calls.clock().await }).await?;
        self.info.next_at = next_tick(&cron, &self.info, now);
        let (tenant, info) = (database.tenant(), &self.info);
        database.retrying(|calls| async move { calls.put_schedule(tenant, info).await }).await.map(|_| ())
    }
}

/// The next ticks of a schedule after a time, at most so many.
pub fn upcoming(schedule: &ScheduleInfo, after: DateTime<Utc>, most: usize) -> Result<Vec<DateTime<Utc>>, Error> {
    let cron = CronExpression::parse(&schedule.cron, &schedule.zone)?;
    Ok(std::iter::successors(next_tick(&cron, schedule, after), |tick| next_tick(&cron, schedule, *tick))
        .take(most)
        .collect())
}

fn next_tick(cron: &CronExpression, schedule: &ScheduleInfo, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // A tick at the very start counts.
    let from = schedule.starts_at.map_or(after, |start| after.max(start - TimeDelta::nanoseconds(1)));
    cron.next(from).filter(|tick| schedule.ends_at.is_none_or(|end| *tick <= end))
}

/// A tick that is later than this is missed.
const PUNCTUAL: TimeDelta = TimeDelta::seconds(60);

/// Most ticks that are made up for at once.
const MOST_MISSED: usize = 1000;

/// Longest and shortest sleep between two looks at the schedules.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Fires ticks until it is dropped.
pub(crate) async fn run(database: &Database) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    loop {
        match fire_due(database).await {
            Ok(wait) => {
                backoff = Backoff::default();
                tokio::time::sleep(wait).await;
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for the database");
                backoff.wait().await;
            }
            Err(error @ (Error::NotInstalled(_) | Error::Denied(_) | Error::TooNew { .. })) => return Err(error),
            Err(error) => {
                tracing::error!(%error, "ticks cannot be fired; trying again");
                backoff.wait().await;
            }
        }
    }
}

/// Fires what is due, in one transaction. Returns how long to sleep.
async fn fire_due(database: &Database) -> Result<Duration, Error> {
    let mut connection = database.connection().await?;
    let transaction = connection.transaction().await?;
    let calls = Calls::on(&transaction, database.schema().clone());
    let due = calls.due_schedules(100).await?;
    let now = calls.clock().await?;
    for schedule in &due {
        fire(&calls, schedule, now).await?;
    }
    let next = calls.next_tick().await?;
    drop(calls);
    transaction.commit().await?;
    let wait = next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LOOKS.1);
    Ok(wait.clamp(LOOKS.0, LOOKS.1))
}

async fn fire<E: longhaul_schema::calls::Executor>(
    calls: &Calls<E>,
    schedule: &ScheduleInfo,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let Some(first) = schedule.next_at else { return Ok(()) };
    let cron = match CronExpression::parse(&schedule.cron, &schedule.zone) {
        Ok(cron) => cron,
        Err(error) => {
            // Stored by somebody who did not check: it will not become right by itself.
            tracing::error!(schedule = schedule.name, %error, "a schedule has no next tick");
            return calls.move_schedule(schedule.id, None, None).await;
        }
    };
    let mut ticks = vec![first];
    let mut next = next_tick(&cron, schedule, first);
    while let Some(tick) = next.filter(|tick| *tick <= now) {
        if ticks.len() == MOST_MISSED {
            ticks.remove(0);
        }
        ticks.push(tick);
        next = next_tick(&cron, schedule, tick);
    }
    let last = ticks.last().copied();
    for tick in ticks {
        let late = now - tick > PUNCTUAL;
        let missed = match schedule.missed {
            Missed::Skip => late,
            Missed::Once => Some(tick) != last,
            Missed::All => false,
        };
        if let Some(run) = calls.fire_tick(schedule.id, tick, missed).await? {
            tracing::debug!(schedule = schedule.name, %tick, %run, "a tick has started a run");
        }
    }
    calls.move_schedule(schedule.id, last, next).await
}
