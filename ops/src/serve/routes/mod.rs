//! The operations, a file for each subject. The OpenAPI document is made from them.

mod acted;
mod audit;
mod bulk;
mod dead_letters;
mod doctor;
mod events;
mod flows;
mod health;
mod limits;
mod locks;
mod other_acts;
mod overview;
mod questions;
mod queue_acts;
mod queues;
mod retention;
mod run;
mod runs;
mod schedule_acts;
mod schedules;
mod session;
mod signal_acts;
mod signals;
mod start;
mod steer;
mod workers;

use std::{sync::Arc, time::Duration};

use axum::{
    Json as Answer, Router,
    http::{HeaderValue, header},
    middleware,
    response::IntoResponse,
    routing::get,
};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer, set_header::SetResponseHeaderLayer};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use {
    dead_letters::grouped as dead_letter_groups,
    locks::locks,
    overview::overview,
    questions::questions,
    queues::queues as all_queues,
    run::{all_steps as steps, detail as run},
    schedules::schedules,
    workers::workers,
};

use super::{app::App, assets, caller, guard, once, openapi, problem::Problem, requests};

/// The largest body. What the database takes of a payload is less (setting max_payload_bytes), unless it has been raised.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;

/// How long an answer may take. A request that is given up is not carried on.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Longhaul",
        description = "Runs, queues, schedules and all else that an operator sees and does. Errors are application/problem+json. \
                       What may be called without a token says docs/api.md."
    ),
    components(schemas(Problem, steer::Verb))
)]
struct Description;

/// Everything that is answered.
pub(super) fn all(app: App) -> Router {
    let (api, description) =
        OpenApiRouter::with_openapi(Description::openapi()).nest("/api/v1", api()).split_for_parts();
    let (live, of_live) = OpenApiRouter::new().nest("/api/v1", events::routes()).split_for_parts();
    let (session, of_session) = OpenApiRouter::new().nest("/api/v1", session::routes()).split_for_parts();
    let description = Arc::new(openapi::complete(description.merge_from(of_live).merge_from(of_session)));
    let describe = get(move || {
        let description = description.clone();
        async move { Answer(&*description).into_response() }
    });
    let admit = middleware::from_fn_with_state(app.clone(), caller::admit);
    let quick = api
        .layer(middleware::from_fn(once::keyed))
        .layer(admit.clone())
        .merge(session)
        .layer(middleware::from_fn(in_time))
        .route("/api/openapi.json", describe)
        .merge(health::routes())
        .fallback(assets::serve)
        .method_not_allowed_fallback(async || Problem::method("the path does not know this method"));
    let metrics = Router::new().route("/metrics", get(requests::metrics)).layer(admit.clone());
    let headers = [
        (header::CONTENT_SECURITY_POLICY, assets::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let router = headers.into_iter().fold(quick.merge(metrics).merge(live.layer(admit)), |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
    });
    router
        // What is answered of the API is true for a moment only.
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(middleware::from_fn_with_state(app.clone(), guard::check))
        .layer(middleware::from_fn_with_state(app.clone(), requests::count))
        .layer(CompressionLayer::new())
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Problem::internal("the request broke something; the log has more").into_response()
        }))
        .with_state(app)
}

async fn in_time(request: axum::extract::Request, next: middleware::Next) -> axum::response::Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout(format!("no answer within {LONGEST:?}")).into_response(),
    }
}

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(session::session))
        .routes(routes!(overview::get))
        .routes(routes!(overview::throughput))
        .routes(routes!(runs::list))
        .routes(routes!(run::get, steer::change, steer::delete))
        .routes(routes!(start::start))
        .routes(routes!(start::start_many))
        .routes(routes!(bulk::bulk))
        .routes(routes!(steer::steer))
        .routes(routes!(steer::fork))
        .routes(routes!(run::steps))
        .routes(routes!(run::attempts))
        .routes(routes!(run::timeline))
        .routes(routes!(run::why))
        .routes(routes!(run::graph))
        .routes(routes!(run::progress))
        .routes(routes!(run::items))
        .routes(routes!(queues::list))
        .routes(routes!(queue_acts::pause))
        .routes(routes!(queue_acts::resume))
        .routes(routes!(queue_acts::limit))
        .routes(routes!(workers::list))
        .routes(routes!(other_acts::drain))
        .routes(routes!(workers::leases))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::get, schedule_acts::put, schedule_acts::delete))
        .routes(routes!(schedule_acts::pause))
        .routes(routes!(schedule_acts::resume))
        .routes(routes!(schedule_acts::trigger))
        .routes(routes!(schedule_acts::backfill))
        .routes(routes!(locks::list))
        .routes(routes!(other_acts::release))
        .routes(routes!(limits::list))
        .routes(routes!(limits::queue))
        .routes(routes!(signals::list, signal_acts::send))
        .routes(routes!(signal_acts::complete))
        .routes(routes!(signal_acts::broadcast))
        .routes(routes!(questions::list))
        .routes(routes!(signal_acts::decide))
        .routes(routes!(dead_letters::list))
        .routes(routes!(other_acts::retry_dead))
        .routes(routes!(other_acts::discard_dead))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(retention::get))
        .routes(routes!(retention::plan))
        .routes(routes!(other_acts::put_policy, other_acts::delete_policy))
        .routes(routes!(flows::list, other_acts::deploy))
        .routes(routes!(flows::get))
        .routes(routes!(flows::difference))
        .routes(routes!(audit::list))
        .routes(routes!(doctor::doctor))
}
