//! The last things that a worker says: its figures, and that it leaves. Patient with a database that answers, and quick when it
//! does not: then the leases expire by themselves, and whoever ends the process does not wait.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use longhaul_schema::Database;

use crate::{settings::Settings, sinks::ProgressWriter};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the first answer may take.
const SILENCE: Duration = Duration::from_secs(1);

/// Stores what handlers reported last and the last figures, and leaves.
pub(crate) async fn leave_in_good_order(
    database: &Database,
    worker: i64,
    progress: &ProgressWriter,
    settings: &Settings,
) {
    let answered = AtomicBool::new(false);
    let figures: Vec<_> =
        settings.observed.status.borrow().queues.iter().map(|(name, figure)| (name.to_string(), *figure)).collect();
    let figures = async {
        progress.flush().await;
        let saved = async { database.calls().await?.save_figures(worker, &figures).await }.await;
        answered.store(true, Relaxed);
        if let Err(error) = saved {
            tracing::warn!(worker, %error, "the last figures could not be stored");
        }
    };
    let silence = async {
        tokio::time::sleep(SILENCE).await;
        if answered.load(Relaxed) {
            tokio::time::sleep(PATIENCE - SILENCE).await;
        }
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(figures, leave(database, worker, &answered)) } => {}
        () = silence => tracing::warn!(worker, "left without notice: the database did not answer; its leases will expire"),
    }
}

/// Leaves; what the worker still holds goes back to its queues.
pub(crate) async fn leave(database: &Database, worker: i64, answered: &AtomicBool) {
    let left = async { database.calls().await?.deregister_worker(worker).await };
    let outcome = tokio::time::timeout(PATIENCE, left).await;
    answered.store(true, Relaxed);
    match outcome {
        Ok(Ok(0)) => tracing::info!(worker, "left"),
        Ok(Ok(steps)) => tracing::info!(worker, steps, "left; its steps went back to their queues"),
        Ok(Err(error)) => tracing::warn!(worker, %error, "left without notice; its leases will expire"),
        Err(_) => tracing::warn!(worker, "left without notice: the database did not answer; its leases will expire"),
    }
}
