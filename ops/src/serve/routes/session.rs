//! Who one is here, and what there is.

use axum::extract::State;
use longhaul_schema::migrate;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{app::App, caller::Reader, extract::Json, problem::Problem};

/// Who asks, and what he may see.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// The tenant of this request.
    tenant: String,
    /// The tenants that may be asked for.
    tenants: Vec<String>,
    /// Release of this program.
    version: &'static str,
    /// Version of the installation's schema.
    schema_version: u32,
}

/// Who one is here, and which tenants there are.
#[utoipa::path(get, path = "/session", tag = "session", responses((status = 200, body = Session), (status = "default", body = Problem)))]
pub(super) async fn session(State(app): State<App>, reader: Reader) -> Result<Json<Session>, Problem> {
    let database = app.client.database();
    let tenants = database.retrying(|calls| async move { calls.tenants().await }).await?;
    Ok(Json(Session {
        tenant: reader.client.database().tenant().into(),
        tenants,
        version: env!("CARGO_PKG_VERSION"),
        schema_version: migrate::check(database).await?,
    }))
}
