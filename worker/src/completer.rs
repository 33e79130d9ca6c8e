//! Sends outcomes to the database in batches that form by themselves: one call takes all outcomes that arrived while the
//! previous calls were in flight. An idle worker's single outcome goes at once; a busy worker's outcomes go by the hundred.

use futures::{StreamExt, stream::FuturesUnordered};
use longhaul_schema::{
    Database, Error, Payload,
    calls::{AttemptKey, Ended, Refused},
    payload::into_calls,
    retry::Backoff,
};
use tokio::sync::mpsc;

use crate::{StepError, engine::Event, execute::Outcome};

/// Most outcomes in one call.
pub(crate) const MAX_BATCH: usize = 1000;

/// Calls in flight at a time: while the server does one, the next is on its way.
const CALLS: usize = 2;

/// Takes outcomes until all senders are gone, and stores every one of them, however long the database is away.
pub(crate) async fn run(
    database: Database,
    worker: i64,
    mut outcomes: mpsc::Receiver<Outcome>,
    events: mpsc::Sender<Event>,
) {
    let sender = Sender { database: &database, worker };
    let mut calls = FuturesUnordered::new();
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        tokio::select! {
            received = outcomes.recv_many(&mut batch, MAX_BATCH), if calls.len() < CALLS => {
                if received == 0 {
                    break;
                }
                calls.push(sender.store(std::mem::take(&mut batch)));
            }
            Some(settled) = calls.next(), if !calls.is_empty() => {
                if events.send(settled).await.is_err() {
                    return;
                }
            }
        }
    }
    while let Some(settled) = calls.next().await {
        if events.send(settled).await.is_err() {
            return;
        }
    }
}

struct Sender<'a> {
    database: &'a Database,
    worker: i64,
}

impl Sender<'_> {
    /// Stores a batch of outcomes.
    async fn store(&self, batch: Vec<Outcome>) -> Event {
        let mut completed = Vec::with_capacity(batch.len());
        let mut ended = Vec::new();
        let mut keys = Vec::with_capacity(batch.len());
        for outcome in batch {
            keys.push(outcome.key());
            match outcome {
                Outcome::Completed(key, output) => completed.push((key, output)),
                Outcome::Ended(end) => ended.push(end),
            }
        }
        let mut refused = self.complete(completed, &mut ended).await;
        refused.extend(self.end(ended).await);
        let lost = refused.iter().filter(|r| !r.was_done_before()).map(|r| r.key).collect::<Vec<_>>();
        for key in &lost {
            tracing::warn!(%key, worker = self.worker, "the outcome was refused: the lease was lost");
        }
        Event::Settled { keys, lost }
    }

    /// Completes steps. An output that the database refuses fails its own step only.
    async fn complete(&self, items: Vec<(AttemptKey, Payload)>, ended: &mut Vec<Ended>) -> Vec<Refused> {
        let mut refused = Vec::new();
        let mut backoff = Backoff::default();
        // Parts that are still to be sent; a refused part is halved until the bad item stands alone.
        let mut parts = into_calls(items, MAX_BATCH, |(_, output)| output.as_str().len());
        while let Some(mut part) = parts.pop() {
            match self.try_complete(&part).await {
                Ok(answer) => refused.extend(answer),
                Err(Error::Invalid(reason)) if part.len() == 1 => {
                    let error = StepError::fail(format!("the output cannot be stored: {reason}"));
                    if let Outcome::Ended(end) = Outcome::failed(part[0].0, &error) {
                        ended.push(end);
                    }
                }
                Err(Error::Invalid(_)) => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(error) => {
                    wait_after(&error, &mut backoff).await;
                    parts.push(part);
                }
            }
        }
        refused
    }

    async fn try_complete(&self, items: &[(AttemptKey, Payload)]) -> Result<Vec<Refused>, Error> {
        self.database.calls().await?.complete(self.worker, items).await
    }

    /// Ends attempts that did not complete. Their errors are our own text, which the database takes.
    async fn end(&self, items: Vec<Ended>) -> Vec<Refused> {
        let mut backoff = Backoff::default();
        while !items.is_empty() {
            let outcome = match self.database.calls().await {
                Ok(calls) => calls.end_attempts(self.worker, &items).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(refused) => return refused,
                Err(error) => wait_after(&error, &mut backoff).await,
            }
        }
        Vec::new()
    }
}

/// Outcomes are never dropped: whatever keeps them from being stored, they are sent again.
async fn wait_after(error: &Error, backoff: &mut Backoff) {
    if error.is_transient() {
        tracing::debug!(%error, "outcomes wait for the database");
    } else {
        tracing::error!(%error, "outcomes cannot be stored; trying again");
    }
    backoff.wait().await;
}
