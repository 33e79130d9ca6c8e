//! Who asks, for which tenant, and what he may do.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use longhaul_scheduler::Client;
use longhaul_schema::calls::{Scope, TokenInfo};
use uuid::Uuid;

use super::{
    app::App,
    extract::{TENANT, pairs},
    problem::Problem,
    secret::Secret,
};

/// Name of the cookie that the console's login sets.
pub(super) const COOKIE: &str = "longhaul_token";

/// Who asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller(Arc<Known>);

pub(super) struct Known {
    /// Acts for the tenant that was asked for.
    pub(super) client: Client,
    /// His name: that of his token.
    pub(super) who: String,
    /// What he may do.
    pub(super) scope: Scope,
    /// The tenants that he may ask for; all when `None`.
    pub(super) tenants: Option<Vec<String>>,
    /// Why he does it, as he says.
    pub(super) reason: Option<String>,
    /// The id of his request, when it has an idempotency key.
    pub(super) request: Option<Uuid>,
}

impl std::ops::Deref for Caller {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

impl Caller {
    /// Finds out who asks.
    pub(super) async fn identify(app: &App, parts: &Parts) -> Result<Self, Problem> {
        let token = match presented(&parts.headers) {
            Some(text) => Some(genuine(app, &text).await?),
            None if app.address.ip().is_loopback() && !tokens_are_used(app).await? => None,
            None => return Err(Problem::unauthorized("a token is needed: Authorization: Bearer lh_…")),
        };
        let tenants = token.as_ref().and_then(|token| token.tenants.clone());
        let asked = pairs(&parts.uri).find(|(name, value)| name == TENANT && !value.is_empty());
        let own = app.client.database().tenant();
        let tenant = match (asked, &tenants) {
            (Some((_, tenant)), _) => tenant,
            (None, Some(tenants)) if !tenants.iter().any(|tenant| tenant == own) => {
                tenants.first().cloned().unwrap_or_default()
            }
            (None, _) => own.to_owned(),
        };
        if tenants.as_ref().is_some_and(|tenants| !tenants.contains(&tenant)) {
            return Err(Problem::forbidden(format!("this token is not for tenant {tenant}")));
        }
        let who = match &token {
            Some(token) => token.name.clone(),
            None => said(&parts.headers, "x-by").unwrap_or_else(|| app.user.clone()),
        };
        Ok(Self(Arc::new(Known {
            client: app.client.for_tenant(&tenant)?,
            who,
            scope: token.as_ref().map_or(Scope::Admin, |token| token.scope),
            tenants,
            reason: said(&parts.headers, "x-reason"),
            request: None,
        })))
    }

    /// The same, with the id of his request.
    pub(super) fn asking_under(&self, request: Uuid) -> Self {
        let known = &self.0;
        Self(Arc::new(Known {
            client: known.client.clone(),
            who: known.who.clone(),
            scope: known.scope,
            tenants: known.tenants.clone(),
            reason: known.reason.clone(),
            request: Some(request),
        }))
    }

    /// Refuses whoever may not delete.
    pub(super) fn needs_admin(&self) -> Result<(), Problem> {
        self.needs(Scope::Admin)
    }

    /// Refuses whoever may see some tenants only: for what concerns them all.
    pub(super) fn needs_all_tenants(&self) -> Result<(), Problem> {
        match &self.tenants {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden("this concerns all tenants, and the token is for some")),
        }
    }

    fn needs(&self, scope: Scope) -> Result<(), Problem> {
        if self.scope >= scope {
            return Ok(());
        }
        let (needed, has) = (scope.as_str(), self.scope.as_str());
        Err(Problem::forbidden(format!("this needs a token of scope {needed}; the one of {} has {has}", self.who)))
    }
}

/// A header in words: percent-encoded, since headers know only ASCII.
fn said(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = percent_encoding::percent_decode(headers.get(name)?.as_bytes()).decode_utf8_lossy();
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(500).collect();
    (!text.is_empty()).then_some(text)
}

/// The token that a request brings along.
fn presented(headers: &HeaderMap) -> Option<String> {
    if let Some(text) = headers.get(header::AUTHORIZATION) {
        // Whatever else stands there is no token, and lets nobody in.
        let text = text.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or(("", text));
        return Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim().to_owned() } else { String::new() });
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    pairs.into_iter().find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

/// The token, if it counts and its secret is right.
pub(super) async fn genuine(app: &App, text: &str) -> Result<TokenInfo, Problem> {
    let wrong = || Problem::unauthorized("the token is unknown, revoked or expired");
    let secret: Secret = text.parse().map_err(|()| wrong())?;
    let id = secret.id();
    let found = app.client.database().retrying(|calls| async move { calls.find_token(id).await }).await?;
    let token = found.filter(|token| secret.is_of(&token.hash)).ok_or_else(wrong)?;
    let noted = async { app.client.database().calls().await?.token_used(id).await };
    let used_lately = token.last_used_at.is_some_and(|at| (chrono::Utc::now() - at).num_seconds().abs() < 60);
    if !used_lately && let Err(error) = noted.await {
        tracing::debug!(%error, "the use of a token could not be noted");
    }
    Ok(token)
}

async fn tokens_are_used(app: &App) -> Result<bool, Problem> {
    Ok(app.client.database().retrying(|calls| async move { calls.tokens_are_used().await }).await?)
}

/// Before each operation: who asks, and does he ask too much?
pub(super) async fn admit(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    if !app.rate.allows(&presented(&parts.headers).unwrap_or_else(|| peer.ip().to_string())) {
        return Problem::too_many("too many requests a second").into_response();
    }
    match Caller::identify(&app, &parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Extractors: a handler says by its arguments what its caller must be allowed.
macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident: $scope:ident,)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name(Caller);

            impl std::ops::Deref for $name {
                type Target = Caller;

                fn deref(&self) -> &Caller {
                    &self.0
                }
            }

            impl FromRequestParts<App> for $name {
                type Rejection = Problem;

                async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
                    let caller = parts.extensions.get::<Caller>().cloned();
                    let caller = caller.ok_or_else(|| Problem::internal("nobody was asked who he is"))?;
                    caller.needs(Scope::$scope)?;
                    Ok(Self(caller))
                }
            }
        )*
    };
}

callers! {
    /// Somebody who may look.
    Reader: Read,
    /// Somebody who may start and steer.
    Operator: Operate,
    /// Somebody who may delete, and change limits and policies.
    Admin: Admin,
}
