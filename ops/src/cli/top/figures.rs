//! What one look of `top` finds, and what has changed since the look before.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error,
    calls::{Failed, LeaseInfo, LiveQueue, WorkerInfo},
};

/// Most rows of a pane.
const MOST: i64 = 200;

/// How many looks the curve of the throughput remembers.
const REMEMBERED: usize = 240;

/// A queue, with its pace.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) queue: LiveQueue,
    /// Steps that completed each second since the look before; `None` at the first.
    pub(super) completed: Option<f64>,
    /// Attempts that failed each second since then.
    pub(super) failed: Option<f64>,
}

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) now: DateTime<Utc>,
    pub(super) target: String,
    pub(super) queues: Vec<Line>,
    pub(super) workers: Vec<WorkerInfo>,
    pub(super) leases: Vec<LeaseInfo>,
    pub(super) failures: Vec<Failed>,
    /// Completed steps a second of the last looks, the newest last.
    pub(super) curve: Vec<f64>,
}

impl Figures {
    /// Asks the database.
    pub(super) async fn look(client: &Client, before: Option<&Self>) -> Result<Self, Error> {
        let database = client.database();
        let (calls, tenant) = (database.calls().await?, database.tenant());
        let now = calls.present().await?;
        let queues = with_pace(calls.live_queues(tenant).await?, now, before);
        let mut curve = before.map(|before| before.curve.clone()).unwrap_or_default();
        if before.is_some() {
            curve.push(queues.iter().filter_map(|line| line.completed).sum());
            let over = curve.len().saturating_sub(REMEMBERED);
            curve.drain(..over);
        }
        Ok(Self {
            now,
            target: database.config().connection.describe().to_string(),
            queues,
            workers: calls.workers(tenant, false).await?,
            leases: calls.leases(tenant, MOST).await?,
            failures: calls.newest_dead_letters(tenant, MOST).await?,
            curve,
        })
    }

    /// Sums over all queues: ready, running, slots.
    pub(super) fn sums(&self) -> (i64, i64, i64) {
        self.queues.iter().fold((0, 0, 0), |(ready, running, slots), line| {
            (ready + line.queue.ready, running + line.queue.running, slots + line.queue.slots)
        })
    }

    /// The step that is ready for longest.
    pub(super) fn oldest(&self) -> Option<DateTime<Utc>> {
        self.queues.iter().filter_map(|line| line.queue.oldest_ready_at).min()
    }

    /// Completed steps and failed attempts a second.
    pub(super) fn pace(&self) -> (f64, f64) {
        self.queues.iter().fold((0.0, 0.0), |(completed, failed), line| {
            (completed + line.completed.unwrap_or_default(), failed + line.failed.unwrap_or_default())
        })
    }
}

/// Counters only grow while their workers are known; a worker that is forgotten takes its own away, and then nothing is said.
fn with_pace(queues: Vec<LiveQueue>, now: DateTime<Utc>, before: Option<&Figures>) -> Vec<Line> {
    let seconds = before.map(|before| (now - before.now).as_seconds_f64()).filter(|seconds| *seconds > 0.0);
    let known: HashMap<&str, &LiveQueue> =
        before.iter().flat_map(|before| &before.queues).map(|line| (line.queue.queue.as_str(), &line.queue)).collect();
    queues
        .into_iter()
        .map(|queue| {
            let pace = |counter: fn(&LiveQueue) -> i64| {
                let (last, seconds) = (known.get(queue.queue.as_str())?, seconds?);
                let more = counter(&queue) - counter(last);
                (more >= 0).then(|| more as f64 / seconds)
            };
            let (completed, failed) = (pace(|q| q.completed), pace(|q| q.failed));
            Line { queue, completed, failed }
        })
        .collect()
}
