//! What workers report to the database: progress of steps and figures of queues, each through a debounced writer.

use std::time::Duration;

use longhaul_schema::{
    Database, Error, Payload,
    calls::{QueueFigure, StepKey},
};
use tokio::sync::watch;

use crate::{
    debounce::{DebounceSettings, DebouncedWriter, Sink},
    observe::Status,
};

/// Progress by step and key.
pub(crate) type ProgressWriter = DebouncedWriter<(StepKey, String), Payload>;

/// Stores progress.
pub(crate) struct ProgressSink(pub(crate) Database);

impl Sink<(StepKey, String), Payload> for ProgressSink {
    async fn store(&self, values: Vec<((StepKey, String), Payload)>) -> Result<(), Error> {
        match self.0.calls().await?.save_progress(&values).await {
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
