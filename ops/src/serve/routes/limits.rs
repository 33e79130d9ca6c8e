//! Keys of bounded concurrency, and their queues.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        caller::Reader,
        extract::{Json, Query},
        page,
        problem::Problem,
    },
    overview::Counted,
};

/// A key of bounded concurrency.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// Name of the limit.
    name: String,
    /// The key; empty for a limit without keys.
    key: String,
    /// How many of its steps may run at once.
    most: i32,
    /// How many run or may run.
    used: i32,
    /// How many wait for their turn.
    queued: Counted,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyPage {
    /// The keys, by name and key.
    keys: Vec<Key>,
    /// What to give as `after_name` and `after_key` for the next page; null: there is none.
    next: Option<Behind>,
}

/// Where a page ended.
#[derive(Serialize, ToSchema)]
struct Behind {
    after_name: String,
    after_key: String,
}

/// Which keys.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this limit only.
    name: Option<String>,
    /// Behind this limit: `next` of the page before.
    after_name: Option<String>,
    /// Behind this key of it.
    after_key: Option<String>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// Keys of bounded concurrency. A key that nobody uses is forgotten.
#[utoipa::path(get, path = "/limits", tag = "limits", params(Which), responses((status = 200, body = KeyPage), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<KeyPage>, Problem> {
    let limit = i32::try_from(page::limit(which.limit)?).unwrap_or(i32::MAX);
    let database = reader.client.database();
    let (tenant, name) = (database.tenant(), which.name.as_deref());
    let after = which.after_name.as_deref().map(|name| (name, which.after_key.as_deref().unwrap_or_default()));
    let gates = database.retrying(|calls| async move { calls.list_gates(tenant, name, after, limit).await }).await?;
    let full = i32::try_from(gates.len()).is_ok_and(|found| found >= limit);
    let next = gates.last().filter(|_| full);
    let next = next.map(|gate| Behind { after_name: gate.name.clone(), after_key: gate.key.clone() });
    let keys = gates.into_iter().map(|g| Key {
        name: g.name,
        key: g.key,
        most: g.most,
        used: g.used,
        queued: g.queued.into(),
    });
    Ok(Json(KeyPage { keys: keys.collect(), next }))
}

/// A step that waits for its turn.
#[derive(Serialize, ToSchema)]
pub(super) struct Waiting {
    /// Its run.
    run: Uuid,
    /// Its name.
    step: String,
    /// Since when it waits.
    since: DateTime<Utc>,
    /// Lower goes first.
    priority: i16,
}

/// Which key.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// Name of the limit.
    name: String,
    /// The key; empty by default.
    key: Option<String>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// The steps that wait at a key, the next one first.
#[utoipa::path(get, path = "/limits/queue", tag = "limits", params(Of), responses((status = 200, body = [Waiting]), (status = "default", body = Problem)))]
pub(super) async fn queue(reader: Reader, Query(of): Query<Of>) -> Result<Json<Vec<Waiting>>, Problem> {
    let limit = page::limit(of.limit)?;
    let database = reader.client.database();
    let (tenant, name, key) = (database.tenant(), of.name.as_str(), of.key.as_deref().unwrap_or_default());
    let steps = database.retrying(|calls| async move { calls.queued_at(tenant, name, key, limit).await }).await?;
    let steps = steps.into_iter();
    Ok(Json(steps.map(|s| Waiting { run: s.run_id, step: s.step, since: s.since, priority: s.priority }).collect()))
}
