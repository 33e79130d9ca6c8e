//! One run, and everything about it.

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error, Payload,
    calls::{self, RunState, StepInfo, StepState},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        caller::Reader,
        extract::{Json, Path, Query},
        page,
        problem::Problem,
    },
    runs::Run,
};

/// A run with what it gave.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct RunDetail {
    #[serde(flatten)]
    run: Run,
    /// What it gave, when it has completed.
    #[schema(value_type = Option<serde_json::Value>)]
    output: Option<Payload>,
}

/// A run with what it gave.
pub(in super::super) async fn detail(client: &Client, id: Uuid) -> Result<RunDetail, Error> {
    let run = client.get(id).await?;
    let output = match run.state {
        RunState::Completed => client.database().retrying(|calls| async move { calls.run_output(id).await }).await?,
        _ => None,
    };
    Ok(RunDetail { run: run.into(), output })
}

/// A run.
#[utoipa::path(get, path = "/runs/{id}", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = RunDetail), (status = "default", body = Problem)))]
pub(super) async fn get(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<RunDetail>, Problem> {
    Ok(Json(detail(&reader.client, id).await?))
}

/// A step.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Step {
    /// Number within the flow version.
    seq: i32,
    /// Name; items of a fan-out are numbered, as in pay[3].
    name: String,
    /// handler, child, sleep or signal.
    kind: String,
    /// Phase of the flow.
    phase: Option<String>,
    /// Handler; null when the database does it.
    handler: Option<String>,
    /// Queue.
    queue: Option<String>,
    /// blocked, ready, running, waiting, paused, completed, failed, cancelled or skipped.
    #[schema(value_type = String)]
    state: StepState,
    /// Number of the present or last attempt.
    attempt: Option<i32>,
    /// Failed attempts, while it lives.
    failures: Option<i16>,
    /// Most attempts.
    max_attempts: i16,
    /// Worker of the present or last attempt.
    worker: Option<i64>,
    /// When that attempt was claimed.
    started_at: Option<DateTime<Utc>>,
    /// When the step ended.
    ended_at: Option<DateTime<Utc>>,
    /// Until when it sleeps or waits.
    fire_at: Option<DateTime<Utc>>,
    /// What it waits for.
    waits_for: Option<String>,
    /// What it gave.
    #[schema(value_type = Option<serde_json::Value>)]
    output: Option<Payload>,
    /// Why it failed.
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Payload>,
}

impl From<StepInfo> for Step {
    fn from(step: StepInfo) -> Self {
        Self {
            seq: step.seq,
            name: step.name,
            kind: step.kind,
            phase: step.phase,
            handler: step.handler,
            queue: step.queue,
            state: step.state,
            attempt: step.attempt,
            failures: step.failures,
            max_attempts: step.max_attempts,
            worker: step.worker_id,
            started_at: step.started_at,
            ended_at: step.ended_at,
            fire_at: step.fire_at,
            waits_for: step.waits_for,
            output: step.output,
            error: step.error,
        }
    }
}

/// The steps of a run.
pub(in super::super) async fn all_steps(client: &Client, id: Uuid) -> Result<Vec<Step>, Error> {
    Ok(client.steps(id).await?.into_iter().map(Step::from).collect())
}

/// The steps of a run, by number. Items of fan-outs are steps, once their turn has come.
#[utoipa::path(get, path = "/runs/{id}/steps", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = [Step]), (status = "default", body = Problem)))]
pub(super) async fn steps(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<Vec<Step>>, Problem> {
    Ok(Json(all_steps(&reader.client, id).await?))
}

/// An attempt.
#[derive(Serialize, ToSchema)]
pub(super) struct Attempt {
    /// Number of the step.
    seq: i32,
    /// The step.
    step: String,
    /// Number of the attempt.
    attempt: i32,
    /// completed, running, failed, timed_out, panicked, expired, released, snoozed, deferred, suspended or cancelled.
    outcome: String,
    /// Its worker.
    worker: Option<i64>,
    /// When it was claimed.
    claimed_at: Option<DateTime<Utc>>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
    /// What went wrong.
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Payload>,
}

/// All attempts of a run in the order in which they were claimed: completed, failed, and those that run.
#[utoipa::path(get, path = "/runs/{id}/attempts", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = [Attempt]), (status = "default", body = Problem)))]
pub(super) async fn attempts(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<Vec<Attempt>>, Problem> {
    reader.client.get(id).await?;
    let attempts =
        reader.client.database().retrying(|calls| async move { calls.all_attempts(id).await }).await?.into_iter();
    let attempt = |a: calls::Attempt| Attempt {
        seq: a.seq,
        step: a.step,
        attempt: a.attempt,
        outcome: a.outcome,
        worker: a.worker_id,
        claimed_at: a.claimed_at,
        ended_at: a.ended_at,
        error: a.error,
    };
    Ok(Json(attempts.map(attempt).collect()))
}

/// An entry of a timeline.
#[derive(Serialize, ToSchema)]
pub(super) struct Entry {
    /// When.
    at: DateTime<Utc>,
    /// What: created, attempt began, step completed, paused, …
    kind: String,
    /// Of which step.
    step: Option<String>,
    /// Of which attempt.
    attempt: Option<i32>,
    /// By whom.
    actor: Option<String>,
    /// More about it.
    #[schema(value_type = Option<serde_json::Value>)]
    detail: Option<Payload>,
}

/// What happened to a run, when, and by whom, in order.
#[utoipa::path(get, path = "/runs/{id}/timeline", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = [Entry]), (status = "default", body = Problem)))]
pub(super) async fn timeline(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<Vec<Entry>>, Problem> {
    let entries = reader.client.timeline(id).await?.into_iter();
    let entry = |e: calls::TimelineEntry| Entry {
        at: e.at,
        kind: e.kind,
        step: e.step,
        attempt: e.attempt,
        actor: e.actor,
        detail: e.detail,
    };
    Ok(Json(entries.map(entry).collect()))
}

/// Why a step does not run.
#[derive(Serialize, ToSchema)]
pub(super) struct Reason {
    /// The step.
    step: String,
    /// One sentence.
    why: String,
}

/// So many steps are explained.
const EXPLAINED: i64 = 50;

/// Why the steps that have not ended do not run, in one sentence each; the first 50 of them.
#[utoipa::path(get, path = "/runs/{id}/why", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = [Reason]), (status = "default", body = Problem)))]
pub(super) async fn why(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<Vec<Reason>>, Problem> {
    reader.client.get(id).await?;
    let reasons =
        reader.client.database().retrying(|calls| async move { calls.whys(id, EXPLAINED).await }).await?.into_iter();
    Ok(Json(reasons.map(|(step, why)| Reason { step, why }).collect()))
}

/// The items of a fan-out.
#[derive(Serialize, ToSchema)]
struct Items {
    /// In all.
    total: i32,
    /// That have become steps.
    begun: i32,
    /// That have ended.
    ended: i32,
}

/// A step of the flow with its edges.
#[derive(Serialize, ToSchema)]
pub(super) struct Node {
    /// Number within the flow version.
    seq: i32,
    /// Name.
    name: String,
    /// handler, child, sleep or signal.
    kind: String,
    /// Phase of the flow.
    phase: Option<String>,
    /// Handler; null when the database does it.
    handler: Option<String>,
    /// Numbers of the steps that it waits for.
    after: Vec<i32>,
    /// For a compensation: number of the step that it undoes.
    undoes: Option<i32>,
    /// Its present state; null for a compensation that is not called for.
    #[schema(value_type = Option<String>)]
    state: Option<StepState>,
    /// Number of the present or last attempt.
    attempt: Option<i32>,
    /// When that attempt was claimed.
    started_at: Option<DateTime<Utc>>,
    /// When the step ended.
    ended_at: Option<DateTime<Utc>>,
    /// For a fan-out that has begun.
    items: Option<Items>,
}

/// The steps of a run's flow with their edges and present states, by number.
#[utoipa::path(get, path = "/runs/{id}/graph", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = [Node]), (status = "default", body = Problem)))]
pub(super) async fn graph(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<Vec<Node>>, Problem> {
    reader.client.get(id).await?;
    let steps = reader.client.database().retrying(|calls| async move { calls.run_graph(id).await }).await?.into_iter();
    let node = |s: calls::GraphStep| Node {
        seq: s.seq,
        name: s.name,
        kind: s.kind,
        phase: s.phase,
        handler: s.handler,
        after: s.after,
        undoes: s.undoes,
        state: s.state,
        attempt: s.attempt,
        started_at: s.started_at,
        ended_at: s.ended_at,
        items: s.items.map(|(total, begun, ended)| Items { total, begun, ended }),
    };
    Ok(Json(steps.map(node).collect()))
}

/// What a handler reported.
#[derive(Serialize, ToSchema)]
pub(super) struct Progress {
    /// Number of the step.
    seq: i32,
    /// Its key; empty for the step's own progress.
    key: String,
    /// The last value.
    #[schema(value_type = serde_json::Value)]
    value: Payload,
}

/// What the handlers of a run reported, by step and key.
#[utoipa::path(get, path = "/runs/{id}/progress", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = [Progress]), (status = "default", body = Problem)))]
pub(super) async fn progress(reader: Reader, Path(id): Path<Uuid>) -> Result<Json<Vec<Progress>>, Problem> {
    let values = reader.client.progress(id).await?.into_iter();
    Ok(Json(values.map(|p| Progress { seq: p.seq, key: p.key, value: p.value }).collect()))
}

/// Which items.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ItemsFrom {
    /// Beginning with this item; 0 by default.
    from: Option<i32>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// What an item of a fan-out gave.
#[derive(Serialize, ToSchema)]
pub(super) struct Item {
    /// Place in the list, from 0.
    index: i32,
    /// How it ended; null while it lives.
    #[schema(value_type = Option<String>)]
    outcome: Option<StepState>,
    /// What it gave.
    #[schema(value_type = Option<serde_json::Value>)]
    output: Option<Payload>,
    /// Why it failed.
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Payload>,
}

/// What the items of a fan-out gave, a page at a time.
#[utoipa::path(get, path = "/runs/{id}/steps/{step}/items", tag = "runs", params(("id" = Uuid, Path), ("step" = String, Path), ItemsFrom),
    responses((status = 200, body = [Item]), (status = "default", body = Problem)))]
pub(super) async fn items(
    reader: Reader,
    Path((id, step)): Path<(Uuid, String)>,
    Query(which): Query<ItemsFrom>,
) -> Result<Json<Vec<Item>>, Problem> {
    let limit = i32::try_from(page::limit(which.limit)?).unwrap_or(i32::MAX);
    let (from, step) = (which.from.unwrap_or_default(), step.as_str());
    reader.client.get(id).await?;
    let items = reader.client.database();
    let items = items.retrying(|calls| async move { calls.item_outputs(id, step, from, limit).await }).await?;
    let item = |i: calls::ItemOutput| Item { index: i.index, outcome: i.outcome, output: i.output, error: i.error };
    Ok(Json(items.into_iter().map(item).collect()))
}
