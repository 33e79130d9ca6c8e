//! Saves checkpoints in batches that form by themselves: one call takes all that arrived while the previous ones were in flight.

use futures::{StreamExt, stream::FuturesUnordered};
use longhaul_schema::{
    Database, Error,
    calls::{AttemptKey, NewCheckpoint},
    payload::into_calls,
    retry::Backoff,
};
use tokio::sync::{mpsc, oneshot};

/// Most checkpoints in one call.
const MAX_BATCH: usize = 500;

/// Calls in flight at a time.
const CALLS: usize = 2;

/// A checkpoint on its way, and who waits for it.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) checkpoint: NewCheckpoint,
    pub(crate) saved: oneshot::Sender<Result<(), NotSaved>>,
}

/// Why a checkpoint was not saved.
#[derive(Debug)]
pub(crate) enum NotSaved {
    /// The step is no longer this worker's.
    LeaseLost,
    /// The database cannot store it.
    Invalid(String),
}

/// Saves until all senders are gone. While the database is away the functions wait.
pub(crate) async fn run(database: Database, worker: i64, mut saves: mpsc::Receiver<Save>) {
    let mut calls = FuturesUnordered::new();
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        tokio::select! {
            received = saves.recv_many(&mut batch, MAX_BATCH), if calls.len() < CALLS => {
                if received == 0 {
                    break;
                }
                calls.push(save(&database, worker, std::mem::take(&mut batch)));
            }
            Some(()) = calls.next(), if !calls.is_empty() => {}
        }
    }
    while calls.next().await.is_some() {}
}

async fn save(database: &Database, worker: i64, batch: Vec<Save>) {
    let (checkpoints, waiting): (Vec<_>, Vec<_>) = batch.into_iter().map(|s| (s.checkpoint, s.saved)).unzip();
    let items: Vec<_> = checkpoints.into_iter().zip(waiting).collect();
    let mut parts = into_calls(items, MAX_BATCH, |(checkpoint, _)| checkpoint.value.as_str().len());
    let mut backoff = Backoff::default();
    while let Some(mut part) = parts.pop() {
        let checkpoints: Vec<NewCheckpoint> = part.iter().map(|(checkpoint, _)| checkpoint.clone()).collect();
        let outcome = match database.calls().await {
            Ok(calls) => calls.save_checkpoints(worker, &checkpoints).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(refused) => {
                let lost: Vec<AttemptKey> = refused.into_iter().map(|refused| refused.key).collect();
                for (checkpoint, saved) in part {
                    let outcome = if lost.contains(&checkpoint.key) { Err(NotSaved::LeaseLost) } else { Ok(()) };
                    // Whoever does not wait any more was cancelled.
                    let _ = saved.send(outcome);
                }
            }
            // A checkpoint that the database refuses fails its own function only.
            Err(Error::Invalid(reason)) if part.len() == 1 => {
                for (_, saved) in part {
                    let _ = saved.send(Err(NotSaved::Invalid(reason.clone())));
                }
            }
            Err(Error::Invalid(_)) => {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
            }
            Err(error) => {
                tracing::debug!(%error, "checkpoints wait for the database");
                // Those whose functions were stopped meanwhile are not sent again.
                part.retain(|(_, saved)| !saved.is_closed());
                if !part.is_empty() {
                    backoff.wait().await;
                    parts.push(part);
                }
            }
        }
    }
}
