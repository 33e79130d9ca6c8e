//! Live changes.

use std::convert::Infallible;

use axum::{
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::super::{
    app::App,
    caller::Reader,
    events::{Topic, TopicName},
    extract::Query,
    problem::Problem,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(listen))
}

/// What to listen to.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Names of lists, joined by commas.
    topics: Option<String>,
    /// One run with its steps.
    run: Option<Uuid>,
    /// The states of these runs, joined by commas.
    runs: Option<String>,
}

/// The most runs whose states one stream tells.
const MOST_RUNS: usize = 200;

impl Which {
    fn topics(self) -> Result<Vec<Topic>, Problem> {
        let mut topics = Vec::new();
        for name in self.topics.iter().flat_map(|names| names.split(',')) {
            topics.push(Topic::Named(name.trim().parse::<TopicName>().map_err(Problem::invalid)?));
        }
        topics.extend(self.run.map(Topic::Run));
        if let Some(ids) = self.runs {
            let ids: Result<Vec<Uuid>, _> = ids.split(',').map(|id| id.trim().parse()).collect();
            let ids = ids.map_err(|_| Problem::invalid("runs is a list of ids, joined by commas"))?;
            if ids.len() > MOST_RUNS {
                return Err(Problem::invalid(format!("runs names at most {MOST_RUNS} ids")));
            }
            topics.push(Topic::Runs(ids));
        }
        if topics.is_empty() {
            return Err(Problem::invalid(format!("say topics ({}), run or runs", TopicName::all())));
        }
        topics.dedup();
        Ok(topics)
    }
}

/// Server-sent events: the name is the topic, the data is what the topic's own address would answer now. The first comes at once, others
/// when something has changed.
#[utoipa::path(get, path = "/events", tag = "events", params(Which),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = Problem)))]
async fn listen(State(app): State<App>, reader: Reader, Query(which): Query<Which>) -> Result<Response, Problem> {
    let feeds = which.topics()?.into_iter().map(|topic| app.feeds.subscribe(&reader.client, topic));
    let feeds = feeds.collect::<Result<Vec<_>, _>>()?;
    let stopping = app.stopping().clone().cancelled_owned();
    let events = stream::select_all(feeds)
        .map(|change| Ok::<_, Infallible>(Event::default().event(change.name).data(&*change.data)))
        .take_until(stopping);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
