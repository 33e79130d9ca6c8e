//! What operators did.

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Payload,
    calls::{ActFilter, ActInfo},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    caller::Reader,
    extract::{Json, Query},
    page,
    problem::Problem,
};

/// Something that an operator did.
#[derive(Serialize, ToSchema)]
pub(super) struct Act {
    /// Its id.
    id: Uuid,
    /// When it began.
    at: DateTime<Utc>,
    /// By whom.
    actor: String,
    /// What, as in stop run.
    act: String,
    /// To what: an id or a name.
    target: Option<String>,
    /// Why, as he said.
    reason: Option<String>,
    /// With what: the choice, the filter, the limits.
    #[schema(value_type = Option<serde_json::Value>)]
    detail: Option<Payload>,
    /// The state before.
    #[schema(value_type = Option<serde_json::Value>)]
    before: Option<Payload>,
    /// done, refused, or failed; null: it is being done, or nobody knows.
    outcome: Option<String>,
    /// The state after.
    #[schema(value_type = Option<serde_json::Value>)]
    after: Option<Payload>,
    /// Why it was refused or failed.
    error: Option<String>,
}

/// A page of acts, the latest first.
#[derive(Serialize, ToSchema)]
pub(super) struct ActPage {
    /// The acts.
    acts: Vec<Act>,
    /// What to give as `after` for the next page; null: there is none.
    next: Option<Uuid>,
}

/// Which acts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// By this person.
    actor: Option<String>,
    /// Of this kind, as in stop run.
    act: Option<String>,
    /// To this.
    target: Option<String>,
    /// Behind this one: `next` of the page before.
    after: Option<Uuid>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// What operators did through this API, the latest first; of the newest 100,000 acts.
#[utoipa::path(get, path = "/audit", tag = "audit", params(Which), responses((status = 200, body = ActPage), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<ActPage>, Problem> {
    let filter = ActFilter {
        actor: which.actor,
        act: which.act,
        target: which.target,
        before: which.after,
        limit: page::limit(which.limit)?,
    };
    let database = reader.client.database();
    let (tenant, filter) = (database.tenant(), &filter);
    let acts = database.retrying(|calls| async move { calls.list_acts(tenant, filter).await }).await?;
    let full = i64::try_from(acts.len()).is_ok_and(|found| found >= filter.limit);
    let next = acts.last().filter(|_| full).map(|act| act.id);
    let act = |a: ActInfo| Act {
        id: a.id,
        at: a.at,
        actor: a.actor,
        act: a.act,
        target: a.target,
        reason: a.reason,
        detail: a.detail,
        before: a.before,
        outcome: a.outcome,
        after: a.after,
        error: a.error,
    };
    Ok(Json(ActPage { acts: acts.into_iter().map(act).collect(), next }))
}
