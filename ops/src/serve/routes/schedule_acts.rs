//! Making, pausing, running and deleting schedules.

use chrono::{DateTime, Utc};
use longhaul_scheduler::{Missed, Overlap, Schedule};
use longhaul_schema::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        act::Doing,
        caller::{Admin, Caller, Operator},
        extract::{Given, Json, Path},
        problem::Problem,
    },
    acted::Acted,
};

/// How a schedule is set, for the record. Null: there is none of that name.
async fn settings(caller: &Caller, name: &str) -> Result<Value, Problem> {
    let schedule = caller.client.schedules().await?.into_iter().find(|schedule| schedule.name == name);
    Ok(schedule.map_or(Value::Null, |s| {
        json!({
            "cron": s.cron, "zone": s.zone, "flow": s.flow, "version": s.version, "missed": s.missed.as_str(), "overlap": s.overlap.as_str(),
            "paused_at": s.paused_at, "next_at": s.next_at,
        })
    }))
}

/// A schedule.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchedule {
    /// Minute, hour, day of month, month, day of week; with seconds first if there are six fields.
    cron: String,
    /// The flow that it starts.
    flow: String,
    /// Time zone, by its IANA name; UTC by default.
    zone: Option<String>,
    /// Version of the flow; the latest at each tick by default.
    version: Option<i32>,
    /// Input of its runs; null by default.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    input: Given,
    /// Ticks that passed while nobody looked: skip, once or all; skip by default.
    missed: Option<String>,
    /// While the run of an earlier tick lives: allow, skip or queue; allow by default.
    overlap: Option<String>,
    /// Start each run up to this time after its tick, as in 30s.
    #[schema(value_type = Option<String>)]
    jitter: Option<Span>,
    /// No tick before.
    starts_at: Option<DateTime<Utc>>,
    /// No tick after.
    ends_at: Option<DateTime<Utc>>,
}

impl NewSchedule {
    fn schedule(self, name: &str) -> Result<Schedule, Problem> {
        let mut schedule = Schedule::new(name, self.cron, self.flow);
        if let Some(zone) = self.zone {
            schedule = schedule.zone(zone);
        }
        if let Some(version) = self.version {
            schedule = schedule.version(version);
        }
        if let Some(input) = self.input.0 {
            schedule = schedule.payload(input);
        }
        if let Some(missed) = self.missed {
            schedule = schedule.missed(missed.parse::<Missed>()?);
        }
        if let Some(overlap) = self.overlap {
            schedule = schedule.overlap(overlap.parse::<Overlap>()?);
        }
        if let Some(jitter) = self.jitter {
            schedule = schedule.jitter(jitter.as_duration());
        }
        if let Some(time) = self.starts_at {
            schedule = schedule.starts_at(time);
        }
        if let Some(time) = self.ends_at {
            schedule = schedule.ends_at(time);
        }
        Ok(schedule)
    }
}

/// Makes or changes a schedule.
#[utoipa::path(put, path = "/schedules/{name}", tag = "schedules", params(("name" = String, Path)), request_body = NewSchedule, responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn put(
    caller: Admin,
    Path(name): Path<String>,
    Json(schedule): Json<NewSchedule>,
) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let schedule = schedule.schedule(&name)?;
    let act = caller.begin(Doing::new("put schedule").to(&name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.schedule(&schedule).await;
    act.end(result, settings(&caller, &name).await?).await?;
    Ok(Json(Acted { act: id, changed: true }))
}

/// Deletes a schedule and the record of its ticks; its runs stay.
#[utoipa::path(delete, path = "/schedules/{name}", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn delete(caller: Admin, Path(name): Path<String>) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let act = caller.begin(Doing::new("delete schedule").to(&name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.delete_schedule(&name).await;
    act.end(result, Value::Null).await?;
    Ok(Json(Acted { act: id, changed: true }))
}

/// Pauses a schedule.
#[utoipa::path(post, path = "/schedules/{name}/pause", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn pause(caller: Operator, Path(name): Path<String>) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let act = caller.begin(Doing::new("pause schedule").to(&name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.pause_schedule(&name).await;
    let changed = act.end(result, settings(&caller, &name).await?).await?;
    Ok(Json(Acted { act: id, changed }))
}

/// Lets a schedule go on; ticks that passed meanwhile count as missed.
#[utoipa::path(post, path = "/schedules/{name}/resume", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn resume(caller: Operator, Path(name): Path<String>) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let act = caller.begin(Doing::new("resume schedule").to(&name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.resume_schedule(&name).await;
    let changed = act.end(result, settings(&caller, &name).await?).await?;
    Ok(Json(Acted { act: id, changed }))
}

/// A run that was started.
#[derive(Serialize, ToSchema)]
pub(super) struct Triggered {
    /// The run.
    run: Uuid,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// Runs a schedule now, as if a tick had come. Refused when the run before still lives and the schedule says to skip.
#[utoipa::path(post, path = "/schedules/{name}/trigger", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Triggered), (status = "default", body = Problem)))]
pub(super) async fn trigger(caller: Operator, Path(name): Path<String>) -> Result<Json<Triggered>, Problem> {
    let act = caller.begin(Doing::new("trigger schedule").to(&name)).await?;
    let id = act.id();
    let result = match caller.client.run_schedule(&name).await {
        Ok(Some(run)) => Ok(run.id()),
        Ok(None) => Err(Problem::refused(
            "no run was started: the run before still lives, or its start was refused; the schedule says which",
        )),
        Err(error) => Err(error.into()),
    };
    let after = result.as_ref().map_or(Value::Null, |run| json!({ "run": run }));
    let run = act.end(result, after).await?;
    Ok(Json(Triggered { run, act: id }))
}

/// Which ticks are made up for.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backfill {
    /// Ticks after this time.
    from: DateTime<Utc>,
    /// And up to this one, at most up to now.
    to: DateTime<Utc>,
    /// Only tell how many ticks there are.
    #[serde(default)]
    dry_run: bool,
}

/// Ticks that were made up for.
#[derive(Serialize, ToSchema)]
pub(super) struct Backfilled {
    /// Ticks in this time.
    ticks: usize,
    /// Runs that were started or queued: ticks that have had their runs start none.
    started: i64,
    /// The id of this act in the record of acts; null for a preview.
    act: Option<Uuid>,
}

/// The most ticks of one request.
const MOST: usize = 1000;

/// Fires ticks of the past that started no run: missed, skipped and failed ones, and those from before the schedule was made. What the
/// schedule says of overlap counts.
#[utoipa::path(post, path = "/schedules/{name}/backfill", tag = "schedules", params(("name" = String, Path)), request_body = Backfill, responses((status = 200, body = Backfilled), (status = "default", body = Problem)))]
pub(super) async fn backfill(
    caller: Operator,
    Path(name): Path<String>,
    Json(asked): Json<Backfill>,
) -> Result<Json<Backfilled>, Problem> {
    let now = caller.client.database().retrying(|calls| async move { calls.clock().await }).await?;
    let to = asked.to.min(now);
    let schedule = caller.client.schedules().await?.into_iter().find(|schedule| schedule.name == name);
    let schedule = schedule.ok_or_else(|| Problem::not_found(format!("there is no schedule {name}")))?;
    let ticks = longhaul_scheduler::schedules::between(&schedule, asked.from, to, MOST + 1)?.len();
    if ticks > MOST {
        return Err(Problem::invalid(format!("there are more than {MOST} ticks in this time: take a part of it")));
    }
    if asked.dry_run {
        return Ok(Json(Backfilled { ticks, started: 0, act: None }));
    }
    let act = caller.begin(Doing::new("backfill schedule").to(&name).with(&asked)).await?;
    let id = act.id();
    let result = caller.client.backfill_schedule(&name, asked.from, to, MOST).await;
    let after = result.as_ref().map_or(Value::Null, |(ticks, runs)| json!({ "ticks": ticks, "started": runs }));
    let (ticks, started) = act.end(result, after).await?;
    Ok(Json(Backfilled { ticks, started, act: Some(id) }))
}
