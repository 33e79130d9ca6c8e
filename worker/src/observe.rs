//! Looking on: a worker's status, and the outcomes of its steps, for any number of observers that slow nobody.

use std::sync::Arc;

use longhaul_schema::calls::{AttemptKey, QueueFigure};
use tokio::sync::{broadcast, watch};

use crate::measure::Measures;

/// How a worker is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Id of its registration; 0 before the first one.
    pub worker: i64,
    /// Whether it was told to stop, or drained.
    pub stopping: bool,
    /// Its queues, in the order in which they were named.
    pub queues: Vec<(Arc<str>, QueueFigure)>,
    /// Steps that it owns: running, or with an outcome that is not stored yet.
    pub owned: usize,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeReport {
    /// Which attempt.
    pub key: AttemptKey,
    /// `completed`, `failed`, `timed_out`, `panicked`, `released`, `snoozed`, `deferred`, `suspended`; or, when the database
    /// refused it, `lost` because the lease was lost, or `cancelled` because the run had ended.
    pub outcome: &'static str,
}

/// An item of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// An outcome that was stored.
    Outcome(OutcomeReport),
    /// The subscriber was too slow, and so many outcomes were not kept for it.
    Missed(u64),
}

/// So many outcomes are kept for a slow subscriber.
const KEPT: usize = 4096;

/// Looks on at a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    status: watch::Receiver<Status>,
    outcomes: broadcast::Sender<OutcomeReport>,
    measures: Arc<Measures>,
}

impl Observer {
    /// The present status: a copy of what the worker wrote down when it last did something. Asks the worker nothing.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What the worker measures of itself.
    pub fn measures(&self) -> &Measures {
        &self.measures
    }

    /// The outcomes from now on.
    pub fn subscribe(&self) -> Outcomes {
        Outcomes(self.outcomes.subscribe())
    }
}

/// A subscription to outcomes.
#[derive(Debug)]
pub struct Outcomes(broadcast::Receiver<OutcomeReport>);

impl Outcomes {
    /// The next outcome, or how many were missed; `None` when the worker is gone.
    pub async fn next(&mut self) -> Option<Report> {
        match self.0.recv().await {
            Ok(report) => Some(Report::Outcome(report)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Report::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The worker's side.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) status: watch::Sender<Status>,
    pub(crate) outcomes: broadcast::Sender<OutcomeReport>,
    pub(crate) measures: Arc<Measures>,
}

impl Observed {
    /// Of a worker with these queues.
    pub(crate) fn new(queues: impl Iterator<Item = String>) -> Self {
        Self {
            status: watch::Sender::new(Status::default()),
            outcomes: broadcast::Sender::new(KEPT),
            measures: Measures::new(queues),
        }
    }

    pub(crate) fn observer(&self) -> Observer {
        Observer { status: self.status.subscribe(), outcomes: self.outcomes.clone(), measures: self.measures.clone() }
    }
}
