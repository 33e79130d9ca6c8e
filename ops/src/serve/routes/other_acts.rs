//! Acts on workers, locks, dead letters, retention and flows.

use std::path::Path as File;

use longhaul_schema::{
    Error, Flow, Span,
    calls::{DeadLetterFilter, RetentionPolicy, RunState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        act::Doing,
        caller::{Admin, Operator},
        extract::{Json, Path},
        problem::Problem,
    },
    acted::Acted,
    dead_letters::Chosen,
};
use crate::flow_file;

/// Lets a worker claim no more; what it has it may finish.
#[utoipa::path(post, path = "/workers/{id}/drain", tag = "workers", params(("id" = i64, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn drain(caller: Operator, Path(worker): Path<i64>) -> Result<Json<Acted>, Problem> {
    let database = caller.client.database();
    let tenant = database.tenant();
    let workers = database.retrying(|calls| async move { calls.workers(tenant, true).await }).await?;
    let known = workers.into_iter().find(|known| known.id == worker);
    let known = known.ok_or_else(|| Problem::not_found(format!("there is no worker {worker}")))?;
    let before = json!({ "state": known.state, "holds": known.running });
    let act = caller.begin(Doing::new("drain worker").to(worker).from(&before)).await?;
    let id = act.id();
    let result = match known.state.as_str() {
        "active" => database.retrying(|calls| async move { calls.drain_worker(worker).await }).await.map(|()| true),
        "draining" => Ok(false),
        other => Err(Error::Refused(format!("worker {worker} is {other} and cannot be drained"))),
    };
    let changed = act.end(result, json!({ "state": "draining" })).await?;
    Ok(Json(Acted { act: id, changed }))
}

/// A lock.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    /// Its name.
    name: String,
}

/// Takes a lock from its holder, which is recorded. `changed` is false when nobody held it.
#[utoipa::path(post, path = "/locks/release", tag = "locks", request_body = Lock, responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn release(caller: Admin, Json(lock): Json<Lock>) -> Result<Json<Acted>, Problem> {
    let before = caller.client.locks(false).await?.into_iter().find(|known| known.name == lock.name);
    let before = before.map(|l| json!({ "holder": l.holder, "held": l.held, "token": l.token }));
    let act = caller.begin(Doing::new("release lock").to(&lock.name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.force_release_lock(&lock.name, Some(&caller.who)).await;
    let changed = act.end(result, Value::Null).await?;
    Ok(Json(Acted { act: id, changed }))
}

/// What became of dead letters, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadDone {
    /// The id of this act in the record of acts; null for a preview.
    act: Option<Uuid>,
    /// Whether nothing was done.
    dry_run: bool,
    /// Of a preview: dead letters that it is about. Otherwise: runs that were retried, or dead letters that were discarded.
    count: i64,
    /// Of a preview: the first 100 of the runs, the oldest first.
    runs: Vec<Uuid>,
}

async fn preview(caller: &Operator, filter: &DeadLetterFilter) -> Result<Json<DeadDone>, Problem> {
    let dead = caller.client.dead_letters(filter).await?;
    let count = i64::try_from(dead.len()).unwrap_or(i64::MAX);
    let mut runs: Vec<Uuid> = dead.into_iter().map(|letter| letter.run_id).collect();
    runs.dedup();
    runs.truncate(100);
    Ok(Json(DeadDone { act: None, dry_run: true, count, runs }))
}

/// Retries the failed runs of dead letters, of 1000 at most unless `limit` says more. With `dry_run` it tells which.
#[utoipa::path(post, path = "/dead-letters/retry", tag = "dead letters", request_body = Chosen, responses((status = 200, body = DeadDone), (status = "default", body = Problem)))]
pub(super) async fn retry_dead(caller: Operator, Json(chosen): Json<Chosen>) -> Result<Json<DeadDone>, Problem> {
    let filter = chosen.filter()?;
    if chosen.dry_run {
        return preview(&caller, &filter).await;
    }
    let act = caller.begin(Doing::new("retry dead letters").with(&chosen)).await?;
    let id = act.id();
    let result = caller.client.retry_dead_letters(&filter, Some(&caller.who)).await;
    let after = result.as_ref().map_or(Value::Null, |runs| json!({ "retried": runs }));
    let count = act.end(result, after).await?;
    Ok(Json(DeadDone { act: Some(id), dry_run: false, count, runs: vec![] }))
}

/// Takes dead letters off the list, 1000 at most unless `limit` says more; their runs stay as they are. With `dry_run` it tells which.
#[utoipa::path(post, path = "/dead-letters/discard", tag = "dead letters", request_body = Chosen, responses((status = 200, body = DeadDone), (status = "default", body = Problem)))]
pub(super) async fn discard_dead(caller: Operator, Json(chosen): Json<Chosen>) -> Result<Json<DeadDone>, Problem> {
    let filter = chosen.filter()?;
    if chosen.dry_run {
        return preview(&caller, &filter).await;
    }
    let act = caller.begin(Doing::new("discard dead letters").with(&chosen)).await?;
    let id = act.id();
    let result = caller.client.discard_dead_letters(&filter, Some(&caller.who)).await;
    let after = result.as_ref().map_or(Value::Null, |count| json!({ "discarded": count }));
    let count = act.end(result, after).await?;
    Ok(Json(DeadDone { act: Some(id), dry_run: false, count, runs: vec![] }))
}

/// Which ended runs are to be deleted.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPolicy {
    /// Runs of this final state; of any by default.
    state: Option<String>,
    /// Runs of this flow; of any by default.
    flow: Option<String>,
    /// That ended longer ago than this, as in 30d.
    #[schema(value_type = String)]
    age: Span,
    /// But for the last so many of each flow.
    #[serde(default)]
    keep_last: i32,
    /// Only once they stand in an archive.
    #[serde(default)]
    archive: bool,
}

/// Makes or changes a policy of retention. `GET /retention/plan` tells what it would delete.
#[utoipa::path(put, path = "/retention/policies/{name}", tag = "retention", params(("name" = String, Path)), request_body = NewPolicy, responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn put_policy(
    caller: Admin,
    Path(name): Path<String>,
    Json(policy): Json<NewPolicy>,
) -> Result<Json<Acted>, Problem> {
    let state = policy.state.as_deref().map(str::parse::<RunState>).transpose()?;
    let act = caller.begin(Doing::new("put retention policy").to(&name).with(&policy)).await?;
    let id = act.id();
    let policy = RetentionPolicy {
        name,
        state,
        flow: policy.flow,
        age: policy.age.as_duration(),
        keep_last: policy.keep_last,
        archive: policy.archive,
    };
    let database = caller.client.database();
    let (tenant, policy) = (database.tenant(), &policy);
    let result = database.retrying(|calls| async move { calls.put_retention_policy(tenant, policy).await }).await;
    act.end(result, Value::Null).await?;
    Ok(Json(Acted { act: id, changed: true }))
}

/// Deletes a policy of retention.
#[utoipa::path(delete, path = "/retention/policies/{name}", tag = "retention", params(("name" = String, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn delete_policy(caller: Admin, Path(name): Path<String>) -> Result<Json<Acted>, Problem> {
    let act = caller.begin(Doing::new("delete retention policy").to(&name)).await?;
    let id = act.id();
    let database = caller.client.database();
    let result = async { database.calls().await?.delete_retention_policy(database.tenant(), &name).await };
    act.end(result.await, Value::Null).await?;
    Ok(Json(Acted { act: id, changed: true }))
}

/// A flow version that was deployed.
#[derive(Serialize, ToSchema)]
pub(super) struct Deployed {
    /// Its name.
    name: String,
    /// Its version.
    version: i32,
    /// False: the very same had been deployed before.
    created: bool,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// Deploys a flow version: a flow file as JSON. The same definition again changes nothing; another one under the same version is refused.
#[utoipa::path(post, path = "/flows", tag = "flows", request_body = serde_json::Value, responses((status = 200, body = Deployed), (status = "default", body = Problem)))]
pub(super) async fn deploy(caller: Admin, Json(flow): Json<Flow>) -> Result<Json<Deployed>, Problem> {
    let problems = flow_file::check(File::new("flow"), &flow);
    if let Some(first) = problems.first() {
        return Err(Problem::invalid(first.trim_start_matches("flow: ").to_owned()));
    }
    let act = caller.begin(Doing::new("deploy flow").to(&flow.name)).await?;
    let id = act.id();
    let result = caller.client.deploy(&flow).await;
    let after = result.as_ref().map_or(Value::Null, |done| json!({ "version": done.version, "created": done.created }));
    let done = act.end(result, after).await?;
    Ok(Json(Deployed { name: flow.name, version: done.version, created: done.created, act: id }))
}
