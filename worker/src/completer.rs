//! Sends outcomes to the database in batches that form by themselves: one call takes all outcomes that arrived while the
//! previous calls were in flight. An idle worker's single outcome goes at once; a busy worker's outcomes go by the hundred.

use futures::{StreamExt, stream::FuturesUnordered};
use longhaul_schema::{
    Calls, Database, Error, Payload,
    calls::{AttemptKey, Awaited, Ended, Refused},
    connect::Connection,
    payload::into_calls,
    retry::Backoff,
};
use tokio::sync::{broadcast, mpsc};

use crate::{OutcomeReport, StepError, engine::Event, execute::Outcome};

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
    reports: broadcast::Sender<OutcomeReport>,
) {
    let sender = Sender { database: &database, worker, reports: &reports };
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
    reports: &'a broadcast::Sender<OutcomeReport>,
}

impl Sender<'_> {
    /// Stores a batch of outcomes.
    async fn store(&self, batch: Vec<Outcome>) -> Event {
        let mut completed = Vec::with_capacity(batch.len());
        let mut ended = Vec::new();
        let mut suspended = Vec::new();
        let mut keys = Vec::with_capacity(batch.len());
        for outcome in batch {
            keys.push((outcome.key(), outcome.as_str()));
            match outcome {
                Outcome::Completed(key, output) => completed.push((key, output)),
                Outcome::Ended(end) => ended.push(end),
                Outcome::Suspended(key, awaited) => suspended.push((key, awaited)),
            }
        }
        let mut refused = self.complete(completed, &mut ended).await;
        refused.extend(self.suspend(suspended, &mut ended).await);
        refused.extend(self.end(ended).await);
        let lost = refused.iter().filter(|r| !r.was_done_before()).map(|r| r.key).collect::<Vec<_>>();
        for key in &lost {
            tracing::warn!(%key, worker = self.worker, "the outcome was refused: the lease was lost");
        }
        if self.reports.receiver_count() > 0 {
            for (key, outcome) in &keys {
                let outcome = if lost.contains(key) { "lost" } else { outcome };
                // Nobody listens any more: nothing to do.
                let _ = self.reports.send(OutcomeReport { key: *key, outcome });
            }
        }
        Event::Settled { keys, lost }
    }

    /// Completes steps. An output that the database refuses fails its own step only.
    async fn complete(&self, items: Vec<(AttemptKey, Payload)>, ended: &mut Vec<Ended>) -> Vec<Refused> {
        let parts = into_calls(items, MAX_BATCH, |(_, output)| output.as_str().len());
        let call = |calls: Calls<Connection>, part: Vec<_>| async move {
            let outcome = calls.complete(self.worker, &part).await;
            (part, outcome)
        };
        self.in_parts(parts, "the output cannot be stored", ended, call).await
    }

    /// Suspends steps. What the database refuses to wait for fails its own step only.
    async fn suspend(&self, items: Vec<(AttemptKey, Vec<Awaited>)>, ended: &mut Vec<Ended>) -> Vec<Refused> {
        let size = |payload: &Option<Payload>| payload.as_ref().map_or(0, |p| p.as_str().len());
        let parts = into_calls(items, MAX_BATCH, |(_, awaited)| {
            awaited.iter().map(|a| 100 + size(&a.input) + size(&a.prompt) + size(&a.metadata)).sum()
        });
        let call = |calls: Calls<Connection>, part: Vec<_>| async move {
            let outcome = calls.suspend(self.worker, &part).await;
            (part, outcome)
        };
        self.in_parts(parts, "the step cannot wait for that", ended, call).await
    }

    /// Makes calls until every item is stored or refused. A part that is invalid is halved until the bad item stands alone.
    async fn in_parts<T, F>(
        &self,
        mut parts: Vec<Vec<(AttemptKey, T)>>,
        complaint: &str,
        ended: &mut Vec<Ended>,
        call: impl Fn(Calls<Connection>, Vec<(AttemptKey, T)>) -> F,
    ) -> Vec<Refused>
    where
        F: Future<Output = (Vec<(AttemptKey, T)>, Result<Vec<Refused>, Error>)>,
    {
        let mut refused = Vec::new();
        let mut backoff = Backoff::default();
        while let Some(part) = parts.pop() {
            let (mut part, outcome) = match self.database.calls().await {
                Ok(calls) => call(calls, part).await,
                Err(error) => (part, Err(error)),
            };
            match outcome {
                Ok(answer) => refused.extend(answer),
                Err(Error::Invalid(reason)) if part.len() == 1 => {
                    let error = StepError::fail(format!("{complaint}: {reason}"));
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
