//! Refuses what another site's page may have sent. A browser sends requests to this machine for whatever page is open in it: a name
//! of that page's that points here (DNS rebinding) is told by `Host`, a request that changes something by `Origin` and by what pages
//! of other sites cannot send unasked.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{app::App, problem::Problem};

/// A header that a page of another site cannot send without being asked.
const MARK: &str = "x-requested-by";

pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let host = request.uri().authority().map(|a| a.as_str().to_owned()).or_else(|| text(request.headers(), "host"));
    let checked = check_host(&app, host.as_deref())
        .and_then(|()| check_write(request.method(), request.headers(), host.as_deref()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// On a loopback address only names of this machine are meant.
fn check_host(app: &App, host: Option<&str>) -> Result<(), Problem> {
    if !app.address.ip().is_loopback() {
        return Ok(());
    }
    let name = name_of(host.unwrap_or_default());
    let known = is_loopback(name) || app.options.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    if known {
        return Ok(());
    }
    Err(Problem::foreign(format!(
        "{name:?} is no name of this machine; a proxy that calls it so is allowed with --host {name:?}"
    )))
}

/// The name in an authority, without its port.
fn name_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn check_write(method: &Method, headers: &HeaderMap, host: Option<&str>) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if let Some(origin) = text(headers, "origin") {
        let same = origin.split_once("://").is_some_and(|(_, authority)| host == Some(authority));
        if !same {
            return Err(Problem::foreign(format!("a page of {origin} may change nothing here")));
        }
    }
    let json = text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/json"));
    if json || headers.contains_key(MARK) || headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    Err(Problem::foreign(
        "a request that changes something needs the content type application/json, or a header X-Requested-By",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        for ours in ["localhost", "LOCALHOST:7070", "127.0.0.1:7070", "127.8.9.1", "[::1]:7070", "[::1]"] {
            assert!(is_loopback(name_of(ours)), "{ours}");
        }
        for other in
            ["", "evil.example", "localhost.evil.example:7070", "10.0.0.1:7070", "[fe80::1]:7070", "127.0.0.1.nip.io"]
        {
            assert!(!is_loopback(name_of(other)), "{other}");
        }
    }
}
