//! Schedules, with their next ticks and what became of those that passed.

use chrono::{DateTime, Utc};
use longhaul_scheduler::{Client, schedules::upcoming};
use longhaul_schema::{
    Error, Payload,
    calls::{self, ScheduleInfo},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    caller::Reader,
    extract::{Json, Path, Query},
    page,
    problem::Problem,
};

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Schedule {
    /// Its name.
    name: String,
    /// Cron expression.
    cron: String,
    /// Time zone.
    zone: String,
    /// The flow that it starts.
    flow: String,
    /// Version of the flow; null: the latest at each tick.
    version: Option<i32>,
    /// Input of its runs.
    #[schema(value_type = serde_json::Value)]
    input: Payload,
    /// What happens to missed ticks: skip, once or all.
    missed: &'static str,
    /// What happens while an earlier run lives: allow, skip or queue.
    overlap: &'static str,
    /// Each run starts up to so many milliseconds after its tick.
    jitter_ms: i64,
    /// No tick before.
    starts_at: Option<DateTime<Utc>>,
    /// No tick after.
    ends_at: Option<DateTime<Utc>>,
    /// Since when it is paused.
    paused_at: Option<DateTime<Utc>>,
    /// The next tick.
    next_at: Option<DateTime<Utc>>,
    /// The last tick.
    last_at: Option<DateTime<Utc>>,
    /// Why the last tick could start no run.
    last_error: Option<String>,
    /// How many of the ticks that are remembered could start none.
    failed_ticks: i64,
    /// The next ticks, five in a list; none while it is paused or has none.
    next: Vec<DateTime<Utc>>,
}

impl Schedule {
    fn of(s: ScheduleInfo, from: DateTime<Utc>, next: usize) -> Self {
        let next = if s.paused_at.is_some() { vec![] } else { upcoming(&s, from, next).unwrap_or_default() };
        Self {
            name: s.name,
            cron: s.cron,
            zone: s.zone,
            flow: s.flow,
            version: s.version,
            input: s.input,
            missed: s.missed.as_str(),
            overlap: s.overlap.as_str(),
            jitter_ms: s.jitter_ms,
            starts_at: s.starts_at,
            ends_at: s.ends_at,
            paused_at: s.paused_at,
            next_at: s.next_at,
            last_at: s.last_at,
            last_error: s.last_error,
            failed_ticks: s.failed_ticks,
            next,
        }
    }
}

/// So many ticks stand in a list of schedules.
const LISTED: usize = 5;

/// All schedules of a tenant.
pub(in super::super) async fn schedules(client: &Client) -> Result<Vec<Schedule>, Error> {
    let now = client.database().retrying(|calls| async move { calls.clock().await }).await?;
    Ok(client.schedules().await?.into_iter().map(|s| Schedule::of(s, now, LISTED)).collect())
}

/// The schedules, by name.
#[utoipa::path(get, path = "/schedules", tag = "schedules", responses((status = 200, body = [Schedule]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader) -> Result<Json<Vec<Schedule>>, Problem> {
    Ok(Json(schedules(&reader.client).await?))
}

/// A tick that passed.
#[derive(Serialize, ToSchema)]
struct Tick {
    /// Its time.
    tick: DateTime<Utc>,
    /// When it was fired.
    fired_at: DateTime<Utc>,
    /// started, queued, skipped, missed or failed.
    outcome: String,
    /// The run that it started.
    run: Option<Uuid>,
    /// Why it could start none.
    error: Option<String>,
}

impl From<calls::FiredTick> for Tick {
    fn from(t: calls::FiredTick) -> Self {
        Self { tick: t.tick, fired_at: t.fired_at, outcome: t.outcome, run: t.run_id, error: t.error }
    }
}

/// A schedule with its ticks.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleDetail {
    #[serde(flatten)]
    schedule: Schedule,
    /// What became of the ticks that passed, the latest first.
    past: Vec<Tick>,
}

/// Which ticks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ticks {
    /// So many of the next ticks, 0 to 1000; 10 by default.
    next: Option<usize>,
    /// Next ticks after this time; now by default.
    from: Option<DateTime<Utc>>,
    /// Past ticks before this time.
    before: Option<DateTime<Utc>>,
    /// So many of the past ticks, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// A schedule with its next and past ticks.
#[utoipa::path(get, path = "/schedules/{name}", tag = "schedules", params(("name" = String, Path), Ticks),
    responses((status = 200, body = ScheduleDetail), (status = "default", body = Problem)))]
pub(super) async fn get(
    reader: Reader,
    Path(name): Path<String>,
    Query(ticks): Query<Ticks>,
) -> Result<Json<ScheduleDetail>, Problem> {
    let (limit, next) = (page::limit(ticks.limit)?, ticks.next.unwrap_or(10));
    if next > 1000 {
        return Err(Problem::invalid(format!("next is 0 to 1000, not {next}")));
    }
    let schedules = reader.client.schedules().await?.into_iter();
    let schedule = schedules
        .into_iter()
        .find(|s| s.name == name)
        .ok_or_else(|| Problem::not_found(format!("there is no schedule {name}")))?;
    let database = reader.client.database();
    let (tenant, name) = (database.tenant(), name.as_str());
    let (now, past) = database
        .retrying(|calls| async move {
            Ok((calls.clock().await?, calls.list_ticks(tenant, name, ticks.before, limit).await?))
        })
        .await?;
    let schedule = Schedule::of(schedule, ticks.from.unwrap_or(now), next);
    Ok(Json(ScheduleDetail { schedule, past: past.into_iter().map(Tick::from).collect() }))
}
