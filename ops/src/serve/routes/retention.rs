//! Which ended runs are deleted.

use chrono::{DateTime, Utc};
use longhaul_schema::calls::{AgeFigures, RetentionPlan, RetentionPolicy, RunState};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{caller::Reader, extract::Json, problem::Problem};

/// Which ended runs are deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct Policy {
    /// Its name.
    name: String,
    /// Runs of this final state; null: of any.
    #[schema(value_type = Option<String>)]
    state: Option<RunState>,
    /// Runs of this flow; null: of any.
    flow: Option<String>,
    /// That ended more seconds ago than this.
    age_seconds: u64,
    /// But for the last so many of each flow.
    keep_last: i32,
    /// Whether they are to stand in an archive before.
    archive: bool,
}

/// How many there are, by age.
#[derive(Serialize, ToSchema)]
struct Ages {
    /// runs or signals.
    kind: String,
    /// In all.
    total: i64,
    /// Of the last 24 hours.
    last_24h: i64,
    /// Of the last 7 days.
    last_7d: i64,
    /// Of the last 30 days.
    last_30d: i64,
    /// Older than that.
    older: i64,
    /// The oldest.
    oldest: Option<DateTime<Utc>>,
    /// The newest.
    newest: Option<DateTime<Utc>>,
    /// Whether the figures are estimated from a part.
    estimated: bool,
}

/// The policies, and what the history holds.
#[derive(Serialize, ToSchema)]
pub(super) struct Retention {
    /// In the order in which they are applied.
    policies: Vec<Policy>,
    /// Runs and signals, by age.
    statistics: Vec<Ages>,
}

/// The policies of retention, and what the history holds.
#[utoipa::path(get, path = "/retention", tag = "retention", responses((status = 200, body = Retention), (status = "default", body = Problem)))]
pub(super) async fn get(reader: Reader) -> Result<Json<Retention>, Problem> {
    let database = reader.client.database();
    let tenant = database.tenant();
    let (policies, statistics) = database
        .retrying(|calls| async move {
            Ok((calls.list_retention_policies(tenant).await?, calls.retention_stats(tenant).await?))
        })
        .await?;
    let policy = |p: RetentionPolicy| Policy {
        name: p.name,
        state: p.state,
        flow: p.flow,
        age_seconds: p.age.as_secs(),
        keep_last: p.keep_last,
        archive: p.archive,
    };
    let ages = |a: AgeFigures| Ages {
        kind: a.kind,
        total: a.total,
        last_24h: a.last_24h,
        last_7d: a.last_7d,
        last_30d: a.last_30d,
        older: a.older,
        oldest: a.oldest,
        newest: a.newest,
        estimated: a.estimated,
    };
    Ok(Json(Retention {
        policies: policies.into_iter().map(policy).collect(),
        statistics: statistics.into_iter().map(ages).collect(),
    }))
}

/// What a policy would delete now.
#[derive(Serialize, ToSchema)]
pub(super) struct Plan {
    /// The policy.
    policy: String,
    /// How many runs.
    runs: i64,
    /// When the oldest of them ended.
    oldest: Option<DateTime<Utc>>,
    /// When the newest of them ended.
    newest: Option<DateTime<Utc>>,
    /// Whether they are to stand in an archive before.
    archive: bool,
    /// False: there are more; only the newest million runs were looked at.
    complete: bool,
}

/// What the policies would delete now; nothing is deleted.
#[utoipa::path(get, path = "/retention/plan", tag = "retention", responses((status = 200, body = [Plan]), (status = "default", body = Problem)))]
pub(super) async fn plan(reader: Reader) -> Result<Json<Vec<Plan>>, Problem> {
    let database = reader.client.database();
    let tenant = database.tenant();
    let plans = database.retrying(|calls| async move { calls.retention_plan(tenant).await }).await?;
    let plan = |p: RetentionPlan| Plan {
        policy: p.policy,
        runs: p.runs,
        oldest: p.oldest,
        newest: p.newest,
        archive: p.archive,
        complete: p.complete,
    };
    Ok(Json(plans.into_iter().map(plan).collect()))
}
