//! Sends outcomes to the database in batches that form by themselves: one call takes all outcomes that arrived while the
//! previous call was in flight. An idle worker's single outcome goes at once; a busy worker's outcomes go by the hundred.

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

/// Takes outcomes until all senders are gone, and stores every one of them, however long the database is away.
pub(crate) async fn run(
    database: Database,
    worker: i64,
    mut outcomes: mpsc::Receiver<Outcome>,
    events: mpsc::Sender<Event>,
) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while outcomes.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let mut completed = Vec::with_capacity(batch.len());
        let mut ended = Vec::new();
        let mut settled = Vec::with_capacity(batch.len());
        for outcome in batch.drain(..) {
            settled.push(outcome.key());
            match outcome {
                Outcome::Completed(key, output) => completed.push((key, output)),
                Outcome::Ended(end) => ended.push(end),
            }
        }
        let sender = Sender { database: &database, worker };
        let mut refused = sender.complete(completed, &mut ended).await;
        refused.extend(sender.end(ended).await);
        let lost = refused.iter().filter(|r| !r.was_done_before()).map(|r| r.key).collect::<Vec<_>>();
        for key in &lost {
            tracing::warn!(%key, worker, "the outcome was refused: the lease was lost");
        }
        if events.send(Event::Settled { keys: settled, lost }).await.is_err() {
            return;
        }
    }
}

struct Sender<'a> {
    database: &'a Database,
    worker: i64,
}

impl Sender<'_> {
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
