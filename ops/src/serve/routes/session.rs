//! Who one is here; and the cookie of the console, which keeps a token out of the reach of scripts.

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use longhaul_schema::migrate;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::super::{
    app::App,
    caller::{COOKIE, Reader, genuine},
    extract::Json,
    problem::Problem,
};

/// Who asks, and what he may see.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// His name: that of his token.
    who: String,
    /// What he may do: read, operate or admin.
    scope: &'static str,
    /// The tenant of this request.
    tenant: String,
    /// The tenants that he may ask for.
    tenants: Vec<String>,
    /// Release of this program.
    version: &'static str,
    /// Version of the installation's schema.
    schema_version: u32,
}

/// Who one is here, and which tenants there are. 401: a token is needed.
#[utoipa::path(get, path = "/session", tag = "session", responses((status = 200, body = Session), (status = "default", body = Problem)))]
pub(super) async fn session(State(app): State<App>, reader: Reader) -> Result<Json<Session>, Problem> {
    let database = app.client.database();
    let tenants = match &reader.tenants {
        Some(tenants) => tenants.clone(),
        None => database.retrying(|calls| async move { calls.tenants().await }).await?,
    };
    Ok(Json(Session {
        who: reader.who.clone(),
        scope: reader.scope.as_str(),
        tenant: reader.client.database().tenant().into(),
        tenants,
        version: env!("CARGO_PKG_VERSION"),
        schema_version: migrate::check(database).await?,
    }))
}

/// Whoever logs in is nobody yet: these ask for no token.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(login)).routes(routes!(logout))
}

/// A token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    /// As `longhaul token create` printed it.
    token: String,
}

/// How long the cookie lasts, in seconds; the token itself may end before.
const LASTS: u32 = 12 * 3600;

/// Keeps a token in a cookie that scripts cannot read, for the console.
#[utoipa::path(post, path = "/login", tag = "session", request_body = Login, responses((status = 204), (status = "default", body = Problem)))]
async fn login(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    if !app.rate.allows(&format!("login {}", peer.ip())) {
        return Err(Problem::too_many("too many logins a second"));
    }
    genuine(&app, &login.token).await?;
    Ok(with_cookie(&login.token, LASTS, &headers))
}

/// Takes that cookie away.
#[utoipa::path(post, path = "/logout", tag = "session", responses((status = 204), (status = "default", body = Problem)))]
async fn logout(headers: HeaderMap) -> Response {
    with_cookie("", 0, &headers)
}

fn with_cookie(value: &str, seconds: u32, asked: &HeaderMap) -> Response {
    let secure = if asked.get("x-forwarded-proto").is_some_and(|proto| proto == "https") { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut response = StatusCode::NO_CONTENT.into_response();
    // A token that was found has no other characters than these allow.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
