//! Renews the leases of a worker, all by one update, and learns which of them were lost.

use std::time::{Duration, Instant};

use longhaul_schema::{Database, Error, calls::AttemptKey};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::engine::Event;

/// Beats until the engine is gone or the worker is lost.
pub(crate) async fn run(
    database: Database,
    worker: i64,
    interval: Duration,
    lease: Duration,
    at_once: std::sync::Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    let mut renewed = Instant::now();
    let mut wait = interval;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = at_once.notified() => {}
        }
        let (reply, owned) = oneshot::channel();
        if events.send(Event::ListOwned(reply)).await.is_err() {
            return;
        }
        let Ok(owned) = owned.await else { return };
        // Counted from before the call: the database may have renewed at any time during it.
        let started = Instant::now();
        let event = match beat(&database, worker, &owned).await {
            Ok(lost) => {
                renewed = started;
                wait = interval;
                (!lost.is_empty()).then_some(Event::LeasesLost(lost))
            }
            Err(Error::WorkerLost(reason)) => {
                tracing::warn!(worker, reason, "this worker was given up; it starts anew");
                Some(Event::WorkerLost)
            }
            Err(error) => {
                tracing::warn!(worker, %error, "heartbeat failed");
                wait = (interval / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
                // By now others may have the steps. The database decides that, but until it can be asked the safe
                // assumption is that they do.
                (renewed.elapsed() >= lease).then_some(Event::LeaseOverdue)
            }
        };
        if let Some(event) = event {
            let ends = matches!(event, Event::WorkerLost);
            if events.send(event).await.is_err() || ends {
                return;
            }
        }
    }
}

async fn beat(database: &Database, worker: i64, owned: &[AttemptKey]) -> Result<Vec<AttemptKey>, Error> {
    database.calls().await?.heartbeat(worker, owned.iter().copied()).await
}
