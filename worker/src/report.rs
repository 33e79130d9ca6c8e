//! What workers report to the database: progress of steps and figures of queues, each through a debounced writer.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use longhaul_schema::{
    Database, Error,
    calls::{QueueFigure, Reported, StepKey},
};
use tokio::sync::watch;

use crate::{
    debounce::{DebounceSettings, DebouncedWriter, Sink},
    observe::Status,
};

/// Progress by step and key.
pub(crate) type ProgressWriter = DebouncedWriter<(StepKey, String), Reported>;

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

impl Sink<(StepKey, String), Reported> for ProgressSink {
    async fn store(&self, values: Vec<((StepKey, String), Reported)>) -> Result<(), Error> {
        // A call that was given up may arrive after the next one.
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match self.database.calls().await?.save_progress(&values, number).await {
            // What the database cannot store it never will; checks were made when it was put.
            Err(Error::Invalid(reason)) => {
                tracing::error!(reason, keys = values.len(), "progress cannot be stored");
                Ok(())
            }
            outcome => outcome,
        }
    }
}

struct FigureSink {
    database: Database,
    worker: i64,
}

impl Sink<String, QueueFigure> for FigureSink {
    async fn store(&self, figures: Vec<(String, QueueFigure)>) -> Result<(), Error> {
        self.database.calls().await?.save_figures(self.worker, &figures).await
    }
}

/// Reports the figures of a worker's queues whenever they have changed, once in each interval.
pub(crate) async fn figures(database: Database, worker: i64, mut status: watch::Receiver<Status>, interval: Duration) {
    let settings = DebounceSettings { interval, ..DebounceSettings::default() };
    let writer = DebouncedWriter::start(FigureSink { database, worker }, settings);
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
