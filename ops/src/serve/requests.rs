//! What this server measures of itself: requests by address and status, and how long they took.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tokio::sync::Mutex;

use super::{app::App, caller::Reader, problem::Problem};
use crate::metrics::{MEDIA_TYPE, installation};

type Labels = [(&'static str, String); 1];
type StatusLabels = [(&'static str, String); 2];

/// So long an answer is given again: several scrapers cost the database what one does.
const FRESH: Duration = Duration::from_secs(5);

/// Counts requests.
pub(super) struct Requests {
    registry: Registry,
    requests: Family<StatusLabels, Counter>,
    seconds: Family<Labels, Histogram>,
    told: Mutex<Option<(Instant, String)>>,
}

impl Default for Requests {
    fn default() -> Self {
        let requests = Family::default();
        let seconds = Family::new_with_constructor(of_times as fn() -> Histogram);
        let mut registry = Registry::default();
        let help = "Requests to the HTTP API, by address and status.";
        registry.register("longhaul_http_requests", help, requests.clone());
        let help = "How long answers took, by address";
        registry.register("longhaul_http_request_seconds", help, seconds.clone());
        Self { registry, requests, seconds, told: Mutex::default() }
    }
}

fn of_times() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.5, 10))
}

/// Counts a request. Its address is that of the route, so that there are never more than there are routes.
pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str);
    let method = if *request.method() == Method::GET { "" } else { request.method().as_str() };
    let route = format!("{method} {path}").trim().to_owned();
    let response = next.run(request).await;
    let status = ("status", response.status().as_str().to_owned());
    app.requests.requests.get_or_create(&[("route", route.clone()), status]).inc();
    app.requests.seconds.get_or_create(&[("route", route)]).observe(begun.elapsed().as_secs_f64());
    response
}

/// Everything for Prometheus.
pub(super) async fn metrics(State(app): State<App>, reader: Reader) -> Result<Response, Problem> {
    reader.needs_all_tenants()?;
    let mut told = app.requests.told.lock().await;
    let text = match &*told {
        Some((when, text)) if when.elapsed() < FRESH => text.clone(),
        _ => {
            let text = installation(app.client.database()).await?.text_with(&app.requests.registry);
            *told = Some((Instant::now(), text.clone()));
            text
        }
    };
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}
