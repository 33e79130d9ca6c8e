//! Flows and their versions.

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Payload,
    calls::{Difference, FlowInfo},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        caller::Reader,
        extract::{Json, Path, Query},
        problem::Problem,
    },
    overview::Counted,
};

/// A version of a flow.
#[derive(Serialize, ToSchema)]
pub(super) struct Flow {
    /// Its name.
    name: String,
    /// Version.
    version: i32,
    /// Number of steps.
    steps: i32,
    /// Equal for equal definitions, in any installation.
    checksum: String,
    /// When it was deployed.
    deployed_at: DateTime<Utc>,
}

impl From<&FlowInfo> for Flow {
    fn from(f: &FlowInfo) -> Self {
        Self {
            name: f.name.to_string(),
            version: f.version,
            steps: f.steps,
            checksum: f.checksum.clone(),
            deployed_at: f.deployed_at,
        }
    }
}

/// All versions of all flows, by name and version.
#[utoipa::path(get, path = "/flows", tag = "flows", responses((status = 200, body = [Flow]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader) -> Result<Json<Vec<Flow>>, Problem> {
    Ok(Json(reader.client.flows().await?.iter().map(Flow::from).collect()))
}

/// How many runs of a version live.
#[derive(Serialize, ToSchema)]
struct Live {
    /// The version.
    version: i32,
    /// Its live runs.
    runs: Counted,
}

/// A version of a flow with its definition.
#[derive(Serialize, ToSchema)]
pub(super) struct FlowDetail {
    #[serde(flatten)]
    flow: Flow,
    /// The definition, with its defaults filled in.
    #[schema(value_type = serde_json::Value)]
    definition: Payload,
    /// Versions of this flow that have live runs.
    live: Vec<Live>,
}

/// Which version.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Version {
    /// The version; the latest by default.
    version: Option<i32>,
}

/// A flow with its definition.
#[utoipa::path(get, path = "/flows/{name}", tag = "flows", params(("name" = String, Path), Version), responses((status = 200, body = FlowDetail), (status = "default", body = Problem)))]
pub(super) async fn get(
    reader: Reader,
    Path(name): Path<String>,
    Query(which): Query<Version>,
) -> Result<Json<FlowDetail>, Problem> {
    let flow = reader.client.flow(&name, which.version).await?;
    let database = reader.client.database();
    let (tenant, named) = (database.tenant(), name.as_str());
    let live = database.retrying(|calls| async move { calls.counted_live_versions(tenant, named).await }).await?;
    Ok(Json(FlowDetail {
        flow: Flow::from(&flow),
        definition: flow.definition,
        live: live.into_iter().map(|(version, runs)| Live { version, runs: runs.into() }).collect(),
    }))
}

/// Which versions to compare.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Between {
    /// The earlier version.
    from: i32,
    /// The later version.
    to: i32,
}

/// A difference between two versions.
#[derive(Serialize, ToSchema)]
pub(super) struct Change {
    /// The step; null for a setting of the flow itself.
    step: Option<String>,
    /// added, removed or changed.
    change: String,
    /// What it said before, where that differs.
    #[schema(value_type = Option<serde_json::Value>)]
    before: Option<Payload>,
    /// What it says after, where that differs.
    #[schema(value_type = Option<serde_json::Value>)]
    after: Option<Payload>,
}

/// How two versions of a flow differ.
#[utoipa::path(get, path = "/flows/{name}/difference", tag = "flows", params(("name" = String, Path), Between),
    responses((status = 200, body = [Change]), (status = "default", body = Problem)))]
pub(super) async fn difference(
    reader: Reader,
    Path(name): Path<String>,
    Query(between): Query<Between>,
) -> Result<Json<Vec<Change>>, Problem> {
    let differences = reader.client.flow_difference(&name, between.from, between.to).await?;
    let change = |d: Difference| Change { step: d.step, change: d.change, before: d.before, after: d.after };
    Ok(Json(differences.into_iter().map(change).collect()))
}
