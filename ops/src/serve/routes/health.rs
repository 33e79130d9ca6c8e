//! Does it live, and is it ready? For probes; nobody is asked who he is.

use axum::{Router, extract::State, routing::get};
use longhaul_schema::migrate;

use super::super::{app::App, problem::Problem};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// Ready: the database answers, and its installation serves this program.
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    migrate::check(app.client.database()).await?;
    Ok("ready\n")
}
