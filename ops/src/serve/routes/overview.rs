//! The state of everything at a glance.

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{Error, calls};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    caller::Reader,
    extract::{Json, Query},
    problem::Problem,
};

/// A number that is counted up to 10,000.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct Counted {
    /// So many, at least.
    count: i64,
    /// Whether there are more.
    more: bool,
}

impl From<calls::Counted> for Counted {
    fn from(counted: calls::Counted) -> Self {
        Self { count: counted.count, more: counted.more }
    }
}

/// Steps by where they are.
#[derive(Serialize, ToSchema)]
struct StepCounts {
    /// May be claimed.
    ready: Counted,
    /// Workers hold them.
    running: Counted,
    /// They sleep until a time.
    sleeping: Counted,
    /// They wait for a signal, a decision, a child run, their items or a time.
    waiting: Counted,
    /// They are kept back because their runs are paused.
    paused: Counted,
    /// They wait for others of their key.
    queued: Counted,
}

/// A ready step that has waited longest.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct OldestReady {
    /// Since when it is ready.
    pub(super) since: DateTime<Utc>,
    /// Its run.
    run: Uuid,
    /// Its name.
    step: String,
    /// Its queue.
    queue: String,
}

/// What was done in a piece of time.
#[derive(Serialize, ToSchema)]
pub(super) struct Piece {
    /// When it begins.
    at: DateTime<Utc>,
    /// Attempts that were claimed.
    claimed: i64,
    /// Attempts that completed their steps.
    completed: i64,
    /// Attempts that failed.
    failed: i64,
    /// Most ready steps at any minute of it.
    ready: i64,
    /// For how many milliseconds a step had been ready at most.
    oldest_ms: i64,
}

/// Counters of all workers that are remembered. They only grow, but for when a worker is forgotten: differences are rates.
#[derive(Serialize, ToSchema)]
struct Totals {
    /// Attempts that were claimed.
    claimed: i64,
    /// Attempts that completed their steps.
    completed: i64,
    /// Attempts that failed.
    failed: i64,
}

/// The state of everything at a glance.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Overview {
    /// Steps by where they are.
    steps: StepCounts,
    /// Workers that live.
    workers: i64,
    /// Steps that the workers may run at once.
    slots: i64,
    /// Steps that used up their attempts.
    dead_letters: Counted,
    /// Questions that wait for an answer.
    questions: Counted,
    /// The ready step that has waited longest.
    oldest_ready: Option<OldestReady>,
    /// Queues that are paused.
    paused_queues: Vec<String>,
    /// Counters of the workers.
    totals: Totals,
    /// The last hour by the minute, the oldest first. The last minutes are noted a minute late.
    throughput: Vec<Piece>,
}

/// The ready step of a line that has waited longest.
pub(super) fn oldest(line: &calls::QueueLine) -> Option<OldestReady> {
    let oldest = line.oldest.as_ref()?;
    Some(OldestReady { since: oldest.since, run: oldest.run_id, step: oldest.step.clone(), queue: line.queue.clone() })
}

/// The sum of numbers that were counted.
pub(super) fn sum(numbers: impl Iterator<Item = calls::Counted>) -> Counted {
    numbers.fold(Counted { count: 0, more: false }, |sum, one| Counted {
        count: sum.count + one.count,
        more: sum.more || one.more,
    })
}

/// What the overview shows.
pub(in super::super) async fn overview(client: &Client) -> Result<Overview, Error> {
    let database = client.database();
    let tenant = database.tenant();
    database
        .retrying(|calls| async move {
            let rooms = calls.room_counts(tenant).await?;
            let lines = calls.queue_lines(tenant).await?;
            let figures = calls.queue_figures(tenant).await?;
            let (dead_letters, questions, workers) = calls.attention_counts(tenant).await?;
            let throughput = calls.throughput(tenant, None, 60, 1).await?;
            let queues = calls.queue_settings(tenant).await?;
            let total = |of: fn(&calls::QueueFigure) -> i64| figures.iter().map(|(_, _, figure)| of(figure)).sum();
            Ok(Overview {
                steps: StepCounts {
                    ready: sum(lines.iter().map(|line| line.ready)),
                    running: rooms.running.into(),
                    sleeping: rooms.sleeping.into(),
                    waiting: rooms.waiting.into(),
                    paused: rooms.paused.into(),
                    queued: rooms.queued.into(),
                },
                workers,
                slots: total(|figure| i64::from(figure.slots)),
                dead_letters: dead_letters.into(),
                questions: questions.into(),
                oldest_ready: lines.iter().filter_map(oldest).min_by_key(|oldest| oldest.since),
                paused_queues: queues.into_iter().filter(|q| q.paused_at.is_some()).map(|q| q.name).collect(),
                totals: Totals {
                    claimed: total(|figure| figure.claimed),
                    completed: total(|figure| figure.completed),
                    failed: total(|figure| figure.failed),
                },
                throughput: throughput.iter().map(Piece::from).collect(),
            })
        })
        .await
}

impl From<&calls::Throughput> for Piece {
    fn from(piece: &calls::Throughput) -> Self {
        Self {
            at: piece.at,
            claimed: piece.claimed,
            completed: piece.completed,
            failed: piece.failed,
            ready: piece.ready,
            oldest_ms: piece.oldest_ms,
        }
    }
}

/// The state of everything at a glance. Nothing is counted beyond 10,000, so that it costs the same with millions of steps.
#[utoipa::path(get, path = "/overview", tag = "overview", responses((status = 200, body = Overview), (status = "default", body = Problem)))]
pub(super) async fn get(reader: Reader) -> Result<Json<Overview>, Problem> {
    Ok(Json(overview(&reader.client).await?))
}

/// Which throughput.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this queue only.
    queue: Option<String>,
    /// Of the last so many minutes, 1 to 10080; 60 by default. What is kept says setting keep_throughput_days.
    minutes: Option<i32>,
    /// In pieces of so many minutes; 1 by default.
    width: Option<i32>,
}

/// What was done over time, the oldest first.
#[utoipa::path(get, path = "/throughput", tag = "overview", params(Which), responses((status = 200, body = [Piece]), (status = "default", body = Problem)))]
pub(super) async fn throughput(reader: Reader, Query(which): Query<Which>) -> Result<Json<Vec<Piece>>, Problem> {
    let (minutes, width) = (which.minutes.unwrap_or(60), which.width.unwrap_or(1));
    if !(1..=10_080).contains(&minutes) || !(1..=minutes).contains(&width) || minutes / width > 2000 {
        return Err(Problem::invalid("minutes is 1 to 10080, width 1 to minutes, and there are at most 2000 pieces"));
    }
    let database = reader.client.database();
    let (tenant, queue) = (database.tenant(), which.queue.as_deref());
    let pieces =
        database.retrying(|calls| async move { calls.throughput(tenant, queue, minutes, width).await }).await?;
    Ok(Json(pieces.iter().map(Piece::from).collect()))
}
