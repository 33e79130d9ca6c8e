//! Pausing, resuming and limiting queues.

use longhaul_schema::{Span, calls::QueueLimits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    super::{
        act::Doing,
        caller::{Admin, Caller, Operator},
        extract::{Json, Path},
        problem::Problem,
    },
    acted::Acted,
};

/// How a queue is set, for the record. Null: there is no such queue.
async fn settings(caller: &Caller, name: &str) -> Result<Value, Problem> {
    let database = caller.client.database();
    let tenant = database.tenant();
    let queues = database.retrying(|calls| async move { calls.queue_settings(tenant).await }).await?;
    let queue = queues.into_iter().find(|queue| queue.name == name);
    Ok(queue.map_or(Value::Null, |queue| {
        json!({
            "paused_at": queue.paused_at, "max_running": queue.limits.max_running,
            "rate": queue.limits.rate.map(|(limit, per)| json!({ "limit": limit, "per": Span::from(per) })),
            "breaker": queue.limits.breaker.map(|(failures, pause)| json!({ "failures": failures, "pause": Span::from(pause) })),
        })
    }))
}

/// Pauses a queue: nothing more is claimed from it; what runs is let finish.
#[utoipa::path(post, path = "/queues/{name}/pause", tag = "queues", params(("name" = String, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn pause(caller: Operator, Path(name): Path<String>) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let act = caller.begin(Doing::new("pause queue").to(&name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.pause_queue(&name, Some(&caller.who)).await;
    let changed = act.end(result, settings(&caller, &name).await?).await?;
    Ok(Json(Acted { act: id, changed }))
}

/// Lets a queue go on, and closes its breaker.
#[utoipa::path(post, path = "/queues/{name}/resume", tag = "queues", params(("name" = String, Path)), responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn resume(caller: Operator, Path(name): Path<String>) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let act = caller.begin(Doing::new("resume queue").to(&name).from(&before)).await?;
    let id = act.id();
    let result = caller.client.resume_queue(&name).await;
    let changed = act.end(result, settings(&caller, &name).await?).await?;
    Ok(Json(Acted { act: id, changed }))
}

/// At most so many claims in a time.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRate)]
struct Rate {
    /// Claims.
    limit: i32,
    /// In any such time, as in 1s or 1m; 100ms at least.
    #[schema(value_type = String)]
    per: Span,
}

/// What closes a queue.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewBreaker)]
struct Breaker {
    /// So many attempts in a row that got no answer close it.
    failures: i32,
    /// For this time, as in 30s.
    #[schema(value_type = String)]
    pause: Span,
}

/// All limits of a queue. Those that are left out are taken away.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Most steps that run at once, over all workers.
    max_running: Option<i32>,
    /// Most claims in a time.
    rate: Option<Rate>,
    /// What closes it.
    breaker: Option<Breaker>,
}

/// Sets all limits of a queue.
#[utoipa::path(put, path = "/queues/{name}/limits", tag = "queues", params(("name" = String, Path)), request_body = Limits, responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn limit(
    caller: Admin,
    Path(name): Path<String>,
    Json(limits): Json<Limits>,
) -> Result<Json<Acted>, Problem> {
    let before = settings(&caller, &name).await?;
    let act = caller.begin(Doing::new("limit queue").to(&name).with(&limits).from(&before)).await?;
    let id = act.id();
    let limits = QueueLimits {
        max_running: limits.max_running,
        rate: limits.rate.map(|rate| (rate.limit, rate.per.as_duration())),
        breaker: limits.breaker.map(|breaker| (breaker.failures, breaker.pause.as_duration())),
    };
    let result = caller.client.limit_queue(&name, &limits).await;
    let after = settings(&caller, &name).await?;
    let changed = after != before;
    act.end(result, after).await?;
    Ok(Json(Acted { act: id, changed }))
}
