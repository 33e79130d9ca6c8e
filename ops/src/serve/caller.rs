//! Who asks, for which tenant, and what he may do.

use axum::{extract::FromRequestParts, http::request::Parts};
use longhaul_scheduler::Client;

use super::{
    app::App,
    extract::{TENANT, pairs},
    problem::Problem,
};

/// Somebody who may read.
pub(super) struct Reader {
    /// Acts for the tenant that was asked for.
    pub(super) client: Client,
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let asked = pairs(&parts.uri).find(|(name, value)| name == TENANT && !value.is_empty());
        let client = match asked {
            Some((_, tenant)) => app.client.for_tenant(&tenant)?,
            None => app.client.clone(),
        };
        Ok(Self { client })
    }
}
