//! Queues.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{Error, calls};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    super::{caller::Reader, extract::Json, problem::Problem},
    overview::{Counted, OldestReady, oldest, sum},
};

/// At most so many claims in a time.
#[derive(Serialize, ToSchema)]
struct Rate {
    /// Claims.
    limit: i32,
    /// In any so many milliseconds.
    per_ms: u64,
}

/// What closes a queue.
#[derive(Serialize, ToSchema)]
struct Breaker {
    /// So many attempts in a row that got no answer close it.
    failures: i32,
    /// For so many milliseconds.
    pause_ms: u64,
}

/// The steps of one handler in a queue.
#[derive(Serialize, ToSchema)]
struct Line {
    /// The handler.
    handler: String,
    /// Ready steps.
    ready: Counted,
    /// Living workers that could take them.
    workers: i64,
}

/// A queue.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Queue {
    /// Its name.
    name: String,
    /// Since when nothing is claimed from it.
    paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    paused_by: Option<String>,
    /// Most steps that run at once, over all workers.
    max_running: Option<i32>,
    /// Most claims in a time.
    rate: Option<Rate>,
    /// What closes it.
    breaker: Option<Breaker>,
    /// Until when its breaker keeps it closed.
    open_until: Option<DateTime<Utc>>,
    /// Ready steps.
    ready: Counted,
    /// The ready step that has waited longest.
    oldest_ready: Option<OldestReady>,
    /// Ready steps by handler, and who could take them.
    handlers: Vec<Line>,
    /// Living workers that serve it.
    workers: i64,
    /// Steps of it that run, as the workers last said.
    running: i64,
    /// Steps of it that the workers may run at once.
    slots: i64,
    /// Attempts that were claimed; a counter.
    claimed: i64,
    /// Attempts that completed; a counter.
    completed: i64,
    /// Attempts that failed; a counter.
    failed: i64,
}

/// All queues of a tenant.
pub(in super::super) async fn queues(client: &Client) -> Result<Vec<Queue>, Error> {
    let database = client.database();
    let tenant = database.tenant();
    database
        .retrying(|calls| async move {
            let queues = calls.queue_settings(tenant).await?;
            let mut figures: BTreeMap<_, _> =
                calls.queue_figures(tenant).await?.into_iter().map(|(name, workers, f)| (name, (workers, f))).collect();
            let lines = calls.queue_lines(tenant).await?;
            let queue = |queue: calls::QueueInfo| {
                let (workers, figure) = figures.remove(&queue.name).unwrap_or_default();
                let own: Vec<_> = lines.iter().filter(|line| line.queue == queue.name).collect();
                Queue {
                    paused_at: queue.paused_at,
                    paused_by: queue.paused_by,
                    max_running: queue.limits.max_running,
                    rate: queue.limits.rate.map(|(limit, per)| Rate { limit, per_ms: millis(per) }),
                    breaker: queue
                        .limits
                        .breaker
                        .map(|(failures, pause)| Breaker { failures, pause_ms: millis(pause) }),
                    open_until: queue.open_until,
                    ready: sum(own.iter().map(|line| line.ready)),
                    oldest_ready: own.iter().filter_map(|line| oldest(line)).min_by_key(|oldest| oldest.since),
                    handlers: own
                        .iter()
                        .map(|line| Line {
                            handler: line.handler.clone(),
                            ready: line.ready.into(),
                            workers: line.workers,
                        })
                        .collect(),
                    workers,
                    running: queue.running.map_or(i64::from(figure.running), i64::from),
                    slots: figure.slots.into(),
                    claimed: figure.claimed,
                    completed: figure.completed,
                    failed: figure.failed,
                    name: queue.name,
                }
            };
            Ok(queues.into_iter().map(queue).collect())
        })
        .await
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The queues, by name, with their limits, and who takes them.
#[utoipa::path(get, path = "/queues", tag = "queues", responses((status = 200, body = [Queue]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader) -> Result<Json<Vec<Queue>>, Problem> {
    Ok(Json(queues(&reader.client).await?))
}
