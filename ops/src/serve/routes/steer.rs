//! Operations on one run.

use axum::http::StatusCode;
use longhaul_schema::{
    Error, Payload,
    calls::{Operation, OperationOptions, RunMark, RunState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        act::Doing,
        caller::{Admin, Caller, Operator},
        extract::{Given, Json, Options, Path},
        problem::Problem,
    },
    acted::Acted,
};

/// What can be done with a run that needs no more than its id.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verb {
    /// Starts a pending run now.
    Begin,
    /// Keeps ready steps back; running ones finish.
    Pause,
    /// Lets a paused run go on.
    Resume,
    /// Stops a live run and its children.
    Stop,
    /// Leaves an ended run out of lists.
    Dismiss,
    /// Puts a dismissed run back into lists.
    Undismiss,
    /// Goes on with a failed or stopped run from the steps that failed or were cancelled.
    Retry,
}

impl Verb {
    pub(super) fn operation(self, data: Option<Payload>) -> Operation {
        match self {
            Self::Begin => Operation::Start,
            Self::Pause => Operation::Pause,
            Self::Resume => Operation::Resume(data),
            Self::Stop => Operation::Stop,
            Self::Dismiss => Operation::Dismiss,
            Self::Undismiss => Operation::Undismiss,
            Self::Retry => Operation::Retry,
        }
    }

    /// How it stands in the record of acts.
    fn act(self) -> &'static str {
        match self {
            Self::Begin => "begin run",
            Self::Pause => "pause run",
            Self::Resume => "resume run",
            Self::Stop => "stop run",
            Self::Dismiss => "dismiss run",
            Self::Undismiss => "undismiss run",
            Self::Retry => "retry run",
        }
    }
}

/// What is expected of the run.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Expecting {
    /// Refused (412) when the run has another revision.
    expected_revision: Option<i32>,
    /// Refused (412) when the run is in another state.
    expected_state: Option<String>,
    /// For resume: data for the step that interrupted the run.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Given,
}

impl Expecting {
    fn options(&self, caller: &Caller) -> Result<OperationOptions, Problem> {
        Ok(OperationOptions {
            by: Some(caller.who.clone()),
            expected_state: self.expected_state.as_deref().map(str::parse::<RunState>).transpose()?,
            expected_revision: self.expected_revision,
            request: caller.request,
        })
    }
}

/// A run after an act.
#[derive(Serialize, ToSchema)]
pub(super) struct Steered {
    /// The run.
    id: Uuid,
    /// Its state now.
    #[schema(value_type = String)]
    state: RunState,
    /// Its revision now.
    revision: i32,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// How far a run is, for the record.
async fn mark(caller: &Caller, id: Uuid) -> Result<RunMark, Problem> {
    let database = caller.client.database();
    let (tenant, ids) = (database.tenant(), &[id]);
    let marks = database.retrying(|calls| async move { calls.run_marks(tenant, ids).await }).await?;
    marks.into_iter().next().ok_or_else(|| Problem::not_found(format!("there is no run {id} for tenant {tenant}")))
}

fn shown(mark: &RunMark) -> Value {
    json!({ "state": mark.state, "revision": mark.revision })
}

/// What is contradicted is what was expected, when something was.
fn judged(error: Error, options: &OperationOptions) -> Problem {
    let expecting = options.expected_state.is_some() || options.expected_revision.is_some();
    match error {
        Error::Conflict(detail) if expecting => Problem::not_as_expected(detail),
        other => other.into(),
    }
}

async fn operate(
    caller: &Caller,
    id: Uuid,
    doing: Doing,
    operation: Operation,
    options: OperationOptions,
) -> Result<Json<Steered>, Problem> {
    let before = mark(caller, id).await?;
    let act = caller.begin(doing.to(id).from(&shown(&before))).await?;
    let act_id = act.id();
    // Without a key of its own, the act is what is carried out once.
    let options = OperationOptions { request: Some(act_id), ..options };
    let result = caller.client.run(id).operate(operation, options.clone()).await;
    let after = mark(caller, id).await;
    let shown = after.as_ref().map_or(Value::Null, shown);
    act.end(result.map_err(|error| judged(error, &options)), shown).await?;
    let after = after?;
    Ok(Json(Steered { id, state: after.state, revision: after.revision, act: act_id }))
}

/// Begins, pauses, resumes, stops, retries, dismisses or undismisses a run.
#[utoipa::path(post, path = "/runs/{id}/{verb}", tag = "runs", params(("id" = Uuid, Path), ("verb" = Verb, Path)), request_body = Option<Expecting>,
    responses((status = 200, body = Steered), (status = "default", body = Problem)))]
pub(super) async fn steer(
    caller: Operator,
    Path((id, verb)): Path<(Uuid, Verb)>,
    Options(expecting): Options<Expecting>,
) -> Result<Json<Steered>, Problem> {
    let options = expecting.options(&caller)?;
    let data = expecting.data.0;
    if data.is_some() && verb != Verb::Resume {
        return Err(Problem::invalid("data is for the step that interrupted a run: for resume alone"));
    }
    operate(&caller, id, Doing::new(verb.act()), verb.operation(data), options).await
}

/// What is to be changed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// Its name, at most 200 characters; null takes it away.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Given,
    /// Keys of its metadata; null takes a key away.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    metadata: Given,
    /// Refused (412) when the run has another revision.
    expected_revision: Option<i32>,
}

/// Renames a run, or sets keys of its metadata: one of the two.
#[utoipa::path(patch, path = "/runs/{id}", tag = "runs", params(("id" = Uuid, Path)), request_body = Changes,
    responses((status = 200, body = Steered), (status = "default", body = Problem)))]
pub(super) async fn change(
    caller: Operator,
    Path(id): Path<Uuid>,
    Json(changes): Json<Changes>,
) -> Result<Json<Steered>, Problem> {
    let (doing, operation) = match (changes.name.0, changes.metadata.0) {
        (Some(name), None) => (Doing::new("rename run").with(&name), Operation::Rename(name.read()?)),
        (None, Some(metadata)) => (Doing::new("annotate run").with(&metadata), Operation::Annotate(metadata)),
        _ => return Err(Problem::invalid("say name or metadata, one of the two")),
    };
    let expecting = Expecting { expected_revision: changes.expected_revision, ..Expecting::default() };
    let options = expecting.options(&caller)?;
    operate(&caller, id, doing, operation, options).await
}

/// From where a run is to be done again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fork {
    /// The step to begin with.
    step: String,
    /// Another input for what is done again.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    input: Given,
    /// Refused (412) when the run has another revision.
    expected_revision: Option<i32>,
}

/// A new run that was forked.
#[derive(Serialize, ToSchema)]
pub(super) struct Forked {
    /// The new run.
    id: Uuid,
    /// The run that it takes over from.
    forked_from: Uuid,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// Starts a new run that does a step of a run, and what follows it, again.
#[utoipa::path(post, path = "/runs/{id}/fork", tag = "runs", params(("id" = Uuid, Path)), request_body = Fork,
    responses((status = 201, body = Forked), (status = "default", body = Problem)))]
pub(super) async fn fork(
    caller: Operator,
    Path(id): Path<Uuid>,
    Json(fork): Json<Fork>,
) -> Result<(StatusCode, Json<Forked>), Problem> {
    let expecting = Expecting { expected_revision: fork.expected_revision, ..Expecting::default() };
    let options = expecting.options(&caller)?;
    let before = mark(&caller, id).await?;
    let doing = Doing::new("fork run").to(id).with(&json!({ "step": fork.step })).from(&shown(&before));
    let act = caller.begin(doing).await?;
    let act_id = act.id();
    let database = caller.client.database();
    let (tenant, step, input, asked) = (database.tenant(), fork.step.as_str(), fork.input.0.as_ref(), &options);
    // The fork has the id of the act: asked for again, it is the same fork.
    let result = database
        .retrying(|calls| async move { calls.fork_run(tenant, id, step, input, act_id, asked).await })
        .await
        .map_err(|error| judged(error, &options));
    let after = result.as_ref().map_or(Value::Null, |new| json!({ "run": new }));
    let new = act.end(result, after).await?;
    Ok((StatusCode::CREATED, Json(Forked { id: new, forked_from: id, act: act_id })))
}

/// Deletes an ended run with all that belongs to it.
#[utoipa::path(delete, path = "/runs/{id}", tag = "runs", params(("id" = Uuid, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn delete(caller: Admin, Path(id): Path<Uuid>) -> Result<Json<Acted>, Problem> {
    let before = mark(&caller, id).await?;
    let act = caller.begin(Doing::new("delete run").to(id).from(&shown(&before))).await?;
    let act_id = act.id();
    let deleted = async {
        match caller.client.database().calls().await?.delete_runs(&[id]).await? {
            0 => Err(Error::Refused(format!(
                "run {id} is {} and cannot be deleted: it lives, or a live run may need it, or it is to stand in an archive before",
                before.state
            ))),
            _ => Ok(()),
        }
    };
    act.end(deleted.await, Value::Null).await?;
    Ok(Json(Acted { act: act_id, changed: true }))
}
