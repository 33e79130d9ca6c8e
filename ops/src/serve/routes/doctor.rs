//! Is everything as it should be?

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{app::App, caller::Reader, extract::Json, problem::Problem};
use crate::cli::doctor::findings;

/// What a check found.
#[derive(Serialize, ToSchema)]
pub(super) struct Check {
    /// Its name.
    check: &'static str,
    /// ok, warning or failed.
    verdict: &'static str,
    /// What it found.
    finding: String,
    /// In numbers; null where there are none.
    figures: serde_json::Value,
}

/// Is everything as it should be? The same as `longhaul doctor`, for tokens that are for all tenants.
#[utoipa::path(get, path = "/doctor", tag = "doctor", responses((status = 200, body = [Check]), (status = "default", body = Problem)))]
pub(super) async fn doctor(State(app): State<App>, reader: Reader) -> Result<Json<Vec<Check>>, Problem> {
    reader.needs_all_tenants()?;
    let checks = findings(app.client.database()).await.map_err(|failure| Problem::internal(failure.to_string()))?;
    let check = |check: crate::cli::doctor::Check| Check {
        check: check.name,
        verdict: check.verdict.word(),
        finding: check.finding,
        figures: check.figures,
    };
    Ok(Json(checks.into_iter().map(check).collect()))
}
