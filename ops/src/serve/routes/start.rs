//! Starting runs.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use longhaul_scheduler::{Start, Unique};
use longhaul_schema::{Payload, Span};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    act::Doing,
    caller::Operator,
    extract::{Given, Json, Options, Path, Query},
    problem::Problem,
};

/// How a run is to be started.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRun {
    /// Its input; {} by default.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    input: Given,
    /// A name for people.
    name: Option<String>,
    /// Priority of all its steps, -1000 to 1000; lower goes first.
    priority: Option<i16>,
    /// Start so long from now, as in 2h or 90s.
    #[schema(value_type = Option<String>)]
    delay: Option<Span>,
    /// Start at this time; a time in the past is now.
    start_at: Option<DateTime<Utc>>,
    /// Fail the run unless it has ended so long after its start.
    #[schema(value_type = Option<String>)]
    deadline: Option<Span>,
    /// Only create it: it is pending until somebody begins it.
    #[serde(default)]
    create_only: bool,
    /// An object to find it by.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    metadata: Given,
    /// Start no second run under this key of the flow: the one that has it is given.
    key: Option<String>,
    /// How long the key counts, as in 1h, or `ever`; as long as the run lives by default.
    key_for: Option<String>,
    /// Id of the run, a UUIDv7: starting twice under one id starts once.
    id: Option<Uuid>,
}

impl NewRun {
    fn into_start(self, version: Option<i32>, request: Option<Uuid>) -> Result<Start, Problem> {
        let input = self.input.0.map_or_else(|| Payload::from_text("{}"), Ok)?;
        let mut start = Start::from_payload(input).id(self.id.or(request).unwrap_or_else(Uuid::now_v7));
        if let Some(name) = self.name {
            start = start.name(name);
        }
        if let Some(version) = version {
            start = start.version(version);
        }
        if let Some(priority) = self.priority {
            start = start.priority(priority);
        }
        if let Some(delay) = self.delay {
            start = start.delay(delay.as_duration());
        }
        if let Some(at) = self.start_at {
            start = start.at(at);
        }
        if let Some(deadline) = self.deadline {
            start = start.deadline(deadline.as_duration());
        }
        if self.create_only {
            start = start.create_only();
        }
        if let Some(metadata) = self.metadata.0 {
            start = start.metadata(&metadata)?;
        }
        match (self.key, self.key_for.as_deref()) {
            (Some(key), None) => Ok(start.unique(key, Unique::WhileLive)),
            (Some(key), Some("ever")) => Ok(start.unique(key, Unique::Forever)),
            (Some(key), Some(time)) => Ok(start.unique(key, Unique::For(time.parse::<Span>()?.as_duration()))),
            (None, Some(_)) => Err(Problem::invalid("key_for says how long a key counts, and there is no key")),
            (None, None) => Ok(start),
        }
    }
}

/// Which version.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Version {
    /// The version; the latest by default.
    version: Option<i32>,
}

/// A run that was started, or was there.
#[derive(Serialize, ToSchema)]
pub(super) struct Started {
    /// The run.
    id: Uuid,
    /// Whether it is another one, which has the key.
    existing: bool,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// Starts a run of a flow. 201: it was started, or had been under the same id; 200: another run has the key, and is given. With an
/// `Idempotency-Key` it is started once, however often it is asked for.
#[utoipa::path(post, path = "/flows/{name}/runs", tag = "runs", params(("name" = String, Path), Version), request_body = NewRun,
    responses((status = 201, body = Started), (status = 200, body = Started), (status = "default", body = Problem)))]
pub(super) async fn start(
    caller: Operator,
    Path(flow): Path<String>,
    Query(which): Query<Version>,
    Options(run): Options<NewRun>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let named = run.id.or(caller.request).unwrap_or_else(Uuid::now_v7);
    let start = NewRun { id: Some(named), ..run }.into_start(which.version, None)?;
    let act = caller.begin(Doing::new("start run").to(&flow).with(&json!({ "run": named }))).await?;
    let id = act.id();
    let result = caller.client.start_with(&flow, start).await.map(|run| run.id());
    let after = result.as_ref().map_or(serde_json::Value::Null, |run| json!({ "run": run }));
    let run = act.end(result, after).await?;
    let status = if run == named { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Started { id: run, existing: run != named, act: id })))
}

/// Which of many runs were started.
#[derive(Serialize, ToSchema)]
pub(super) struct StartedMany {
    /// Those that were started, each with its place in the list.
    started: Vec<Placed>,
    /// Those whose key another run has, each with that run.
    existing: Vec<Placed>,
    /// Those that were refused, each with the reason.
    refused: Vec<Refusal>,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// A run of a list.
#[derive(Serialize, ToSchema)]
struct Placed {
    /// Place in the list, from 0.
    index: usize,
    /// The run.
    id: Uuid,
}

/// A run of a list that was refused.
#[derive(Serialize, ToSchema)]
struct Refusal {
    /// Place in the list, from 0.
    index: usize,
    /// Why.
    reason: String,
}

/// The most runs of one list.
const MOST: usize = 10_000;

/// Starts many runs of a flow in one transaction. Each is accepted or refused for itself; an error means that none was started.
#[utoipa::path(post, path = "/flows/{name}/runs/batch", tag = "runs", params(("name" = String, Path), Version), request_body = [NewRun],
    responses((status = 200, body = StartedMany), (status = "default", body = Problem)))]
pub(super) async fn start_many(
    caller: Operator,
    Path(flow): Path<String>,
    Query(which): Query<Version>,
    Json(runs): Json<Vec<NewRun>>,
) -> Result<Json<StartedMany>, Problem> {
    if runs.len() > MOST {
        return Err(Problem::invalid(format!("a list has at most {MOST} runs, not {}", runs.len())));
    }
    let count = runs.len();
    // With an idempotency key the ids follow from it, so that a list that is sent again is the same list.
    let id_of = |place: usize| caller.request.map(|request| numbered(request, place));
    let starts = runs.into_iter().enumerate();
    let starts =
        starts.map(|(place, run)| run.into_start(which.version, id_of(place))).collect::<Result<Vec<_>, _>>()?;
    let act = caller.begin(Doing::new("start runs").to(&flow).with(&json!({ "runs": count }))).await?;
    let id = act.id();
    let result = caller.client.start_many(&flow, starts).await;
    let after = result.as_ref().map_or(
        serde_json::Value::Null,
        |done| json!({ "started": done.started.len(), "existing": done.existing.len(), "refused": done.refused.len() }),
    );
    let done = act.end(result, after).await?;
    let placed = |runs: Vec<(usize, Uuid)>| runs.into_iter().map(|(index, id)| Placed { index, id }).collect();
    Ok(Json(StartedMany {
        started: placed(done.started),
        existing: placed(done.existing),
        refused: done.refused.into_iter().map(|(index, reason)| Refusal { index, reason }).collect(),
        act: id,
    }))
}

/// An id of its own for each place of a list, with the time of the request's id.
fn numbered(request: Uuid, place: usize) -> Uuid {
    let [.., a, b, c, d] = *request.as_bytes();
    let last = u32::from_be_bytes([a, b, c, d]).wrapping_add(u32::try_from(place).unwrap_or_default());
    let mut bytes = *request.as_bytes();
    bytes[12..].copy_from_slice(&last.to_be_bytes());
    Uuid::from_bytes(bytes)
}
