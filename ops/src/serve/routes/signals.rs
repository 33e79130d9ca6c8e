//! Signals.

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Payload,
    calls::{SignalFilter, SignalInfo},
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

/// A signal that was sent.
#[derive(Serialize, ToSchema)]
pub(super) struct Signal {
    /// Its number, in the order of sending.
    id: i64,
    /// Topic.
    topic: String,
    /// Key; null when it was sent to a run.
    key: Option<String>,
    /// The run that it was sent to.
    run: Option<Uuid>,
    /// What it says.
    #[schema(value_type = serde_json::Value)]
    payload: Payload,
    /// When it was sent.
    sent_at: DateTime<Utc>,
    /// By whom.
    sent_by: String,
    /// When it was consumed.
    consumed_at: Option<DateTime<Utc>>,
    /// By which run.
    consumed_by: Option<Uuid>,
}

/// A page of signals, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct SignalPage {
    /// The signals.
    signals: Vec<Signal>,
    /// What to give as `after` for the next page; null: there is none.
    next: Option<i64>,
}

/// Which signals.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this topic.
    topic: Option<String>,
    /// With this key.
    key: Option<String>,
    /// Sent to this run, or consumed by it.
    run: Option<Uuid>,
    /// Only those that nobody has consumed.
    waiting: Option<bool>,
    /// Behind this one: `next` of the page before.
    after: Option<i64>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// Signals, the newest first; the newest 100,000 are looked at.
#[utoipa::path(get, path = "/signals", tag = "signals", params(Which), responses((status = 200, body = SignalPage), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<SignalPage>, Problem> {
    let filter = SignalFilter {
        topic: which.topic,
        key: which.key,
        run: which.run,
        waiting: which.waiting.unwrap_or_default(),
        before: which.after,
        limit: page::limit(which.limit)?,
    };
    let database = reader.client.database();
    let (tenant, filter) = (database.tenant(), &filter);
    let signals = database.retrying(|calls| async move { calls.find_signals(tenant, filter).await }).await?;
    let full = i64::try_from(signals.len()).is_ok_and(|found| found >= filter.limit);
    let next = signals.last().filter(|_| full).map(|signal| signal.id);
    let signal = |s: SignalInfo| Signal {
        id: s.id,
        topic: s.topic,
        key: s.key,
        run: s.run_id,
        payload: s.payload,
        sent_at: s.sent_at,
        sent_by: s.sent_by,
        consumed_at: s.consumed_at,
        consumed_by: s.consumed_by,
    };
    Ok(Json(SignalPage { signals: signals.into_iter().map(signal).collect(), next }))
}
