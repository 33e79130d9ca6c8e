//! What workers report to the database: progress of steps and figures of queues, each through a debounced writer.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use longhaul_schema::{
    Database, Error,
    calls::{ProgressValue, QueueFigure, StepKey},
};
use tokio::sync::watch;

use crate::{
    batch::{in_halves, logged},
    debounce::{DebouncedWriter, Sink},
    observe::Status,
};

/// Progress by step and key.
pub(crate) type ProgressWriter = DebouncedWriter<(StepKey, String), ProgressValue>;

/// Figures by queue.
pub(crate) type FigureWriter = DebouncedWriter<String, QueueFigure>;

/// Stores progress.
pub(crate) struct ProgressSink {
    database: Database,
    calls: AtomicI64,
}

impl ProgressSink {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, calls: AtomicI64::new(0) }
    }
}

impl Sink<(StepKey, String), ProgressValue> for ProgressSink {
    async fn store(&self, values: Vec<((StepKey, String), ProgressValue)>) -> Result<(), Error> {
        let call = |part: Vec<_>| async move {
            // A call that was given up may arrive after the next one.
            let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            let stored = async { self.database.calls().await?.save_progress(&part, number).await }.await;
            (part, stored)
        };
        in_halves(values, call, |((step, _), _), error| {
            tracing::error!(run = %step.run_id, step = step.seq, error = logged(error), "a progress cannot be stored");
        })
        .await
    }
}

/// Stores figures.
pub(crate) struct FigureSink {
    database: Database,
    worker: i64,
}

impl FigureSink {
    pub(crate) fn new(database: Database, worker: i64) -> Self {
        Self { database, worker }
    }
}

impl Sink<String, QueueFigure> for FigureSink {
    async fn store(&self, figures: Vec<(String, QueueFigure)>) -> Result<(), Error> {
        let call = |part: Vec<_>| async move {
            let stored = async { self.database.calls().await?.save_figures(self.worker, &part).await }.await;
            (part, stored)
        };
        in_halves(figures, call, |(queue, _), error| {
            tracing::error!(queue, error = logged(error), "the figures of a queue cannot be stored");
        })
        .await
    }
}

/// Reports the figures of a worker's queues whenever they have changed, once in each interval.
pub(crate) async fn figures(writer: FigureWriter, mut status: watch::Receiver<Status>, interval: Duration) {
    let mut reported = Vec::new();
    while status.changed().await.is_ok() {
        let queues = status.borrow_and_update().queues.clone();
        for (place, (queue, figure)) in queues.iter().enumerate() {
            if reported.get(place) != Some(figure) {
                writer.put(queue.to_string(), *figure).await;
            }
        }
        reported = queues.into_iter().map(|(_, figure)| figure).collect();
        // Counters change with every step; looking at them more often than they are stored is of no use.
        tokio::time::sleep(interval / 2).await;
    }
}
