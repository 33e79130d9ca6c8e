//! The sender: stores items in batches that form by themselves. One call takes all items that arrived while the previous calls
//! were in flight: a single item goes at once, and under load they go by the hundred, without a timer.
//!
//! What can go wrong with a call is answered here, once for all that a worker sends:
//!
//! - The database is away: the batch waits for it.
//! - An item is refused: the batch is halved until that item stands alone, and its [`Destination`] decides what becomes of it.
//! - Somebody else is at an item's run: it is sent again later, apart from the others.
//! - Nothing at all can be stored, as with a broken installation: after some time the sender ends with that error.
//!
//! Nothing is dropped, no item waits for the trouble of another, and no call is repeated without a wait.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use longhaul_schema::{Database, Error, backoff::Backoff};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

/// Calls in flight at a time: while the server does one, the next is on its way.
const CALLS: usize = 2;

/// So often a batch meets passing trouble before the sender asks whether it is the database's or the batch's.
const PATIENCE: u32 = 3;

/// How long the sender goes on while nothing can be stored, for a reason that does not pass by itself.
const BROKEN_FOR: Duration = Duration::from_secs(30);

/// First and longest wait before busy items are sent again.
const BUSY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The items of a call that are not stored: those that somebody else is busy with, or all of them.
pub(crate) type Stored<T> = Result<Vec<T>, (Vec<T>, Error)>;

/// Where items go.
pub(crate) trait Destination: Sync {
    /// What is stored.
    type Item: Send;

    /// Splits a batch into calls.
    fn calls(&self, batch: Vec<Self::Item>) -> Vec<Vec<Self::Item>>;

    /// Makes a call and tells whom it concerns. Gives those items back that somebody else is busy with; all of them when it fails.
    fn store(&self, items: Vec<Self::Item>) -> impl Future<Output = Stored<Self::Item>> + Send;

    /// The database refuses this item, and nothing else is to blame. Returns what is to be stored instead, if anything.
    fn refused(&self, item: Self::Item, error: &Error) -> impl Future<Output = Option<Self::Item>> + Send;

    /// Whether the database answers at all.
    fn reachable(&self) -> impl Future<Output = bool> + Send;

    /// Whether anybody still waits for this.
    fn is_wanted(&self, _: &Self::Item) -> bool {
        true
    }
}

/// What an error says about the items of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It passes by itself.
    Passing,
    /// An item of the call is bad.
    Item,
    /// The installation is: no privilege, no such function, an answer that cannot be read.
    Installation,
}

/// Classes of SQLSTATE: cardinality, data, integrity, trigger, check option, raised by a function, limits.
const ABOUT_VALUES: [&str; 7] = ["21", "22", "23", "27", "44", "P0", "54"];

/// Whose trouble this is.
pub(crate) fn trouble(error: &Error) -> Trouble {
    match error {
        error if error.is_transient() => Trouble::Passing,
        Error::Invalid(_) | Error::NotFound(_) | Error::Refused(_) | Error::Conflict(_) => Trouble::Item,
        // Values that a constraint or a trigger refuses. All else is about the statement, or an answer that does not fit.
        Error::Database(error) if error.code().is_some_and(|code| ABOUT_VALUES.contains(&&code.code()[..2])) => {
            Trouble::Item
        }
        _ => Trouble::Installation,
    }
}

/// What the database says, without the detail: that may hold the whole row.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Database(inner) => match inner.as_db_error() {
            Some(db) => format!("{} [{}]", db.message(), db.code().code()),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}

/// What of an error may stand in a log: no values of users.
pub(crate) fn logged(error: &Error) -> String {
    match error {
        Error::Database(inner) => match inner.as_db_error() {
            Some(db) => format!("SQLSTATE {} {}", db.code().code(), db.constraint().unwrap_or_default()),
            None => error.to_string(),
        },
        Error::Invalid(_) => "a value that the database refuses".into(),
        other => other.to_string(),
    }
}

/// Whether the database answers.
pub(crate) async fn reachable(database: &Database) -> bool {
    async { database.calls().await?.clock().await }.await.is_ok()
}

/// Takes items until all senders are gone, and stores every one of them, however long the database is away. Ends before that only
/// when nothing can be stored.
pub(crate) async fn run<D: Destination>(
    destination: &D,
    mut inbox: mpsc::Receiver<impl Into<D::Item>>,
    most: usize,
) -> Result<(), Error> {
    let sender = Sender { destination, stored: Mutex::new(None), one: Semaphore::new(1) };
    let mut calls = FuturesUnordered::new();
    let mut alone = FuturesUnordered::new();
    let mut again = FuturesUnordered::new();
    let mut busy = Busy::default();
    let mut batch = Vec::with_capacity(most);
    let mut open = true;
    while open || !calls.is_empty() || !alone.is_empty() || !again.is_empty() || !busy.items.is_empty() {
        let left = tokio::select! {
            received = inbox.recv_many(&mut batch, most), if open && calls.len() < CALLS => {
                open = received > 0;
                if open {
                    calls.push(sender.deliver(batch.drain(..).map(Into::into).collect()));
                }
                continue;
            }
            () = tokio::time::sleep_until(busy.due), if again.is_empty() && !busy.items.is_empty() => {
                busy.items.retain(|item| destination.is_wanted(item));
                again.push(sender.deliver(std::mem::take(&mut busy.items)));
                continue;
            }
            Some(left) = calls.next(), if !calls.is_empty() => left,
            Some(left) = again.next(), if !again.is_empty() => {
                busy.wait = if left.busy.is_empty() { BUSY.0 } else { (busy.wait * 2).min(BUSY.1) };
                left
            }
            Some(left) = alone.next(), if !alone.is_empty() => left?,
        };
        busy.put(left.busy);
        alone.extend(left.odd.into_iter().map(|item| sender.insist(item)));
    }
    Ok(())
}

/// Items that wait for others to leave their runs.
struct Busy<T> {
    items: Vec<T>,
    due: Instant,
    wait: Duration,
}

impl<T> Default for Busy<T> {
    fn default() -> Self {
        Self { items: Vec::new(), due: Instant::now(), wait: BUSY.0 }
    }
}

impl<T> Busy<T> {
    fn put(&mut self, items: Vec<T>) {
        if items.is_empty() {
            return;
        }
        let due = Instant::now() + self.wait;
        self.due = if self.items.is_empty() { due } else { self.due.min(due) };
        self.items.extend(items);
    }
}

/// What a delivery leaves undone.
struct Left<T> {
    /// Others are at the runs of these.
    busy: Vec<T>,
    /// These fail alone, and it is not certain why.
    odd: Vec<T>,
}

struct Sender<'a, D: Destination> {
    destination: &'a D,
    /// When something was stored last.
    stored: Mutex<Option<Instant>>,
    /// Items that fail alone are sent one at a time.
    one: Semaphore,
}

impl<D: Destination> Sender<'_, D> {
    /// Makes calls until every item is stored, refused, busy, or stands alone with trouble that nobody understands yet.
    async fn deliver(&self, batch: Vec<D::Item>) -> Left<D::Item> {
        let mut left = Left { busy: Vec::new(), odd: Vec::new() };
        let mut parts = self.destination.calls(batch);
        let (mut backoff, mut passing) = (Backoff::default(), 0);
        while let Some(part) = parts.pop() {
            let (mut part, error) = match self.store(part).await {
                Ok(busy) => {
                    backoff = Backoff::default();
                    left.busy.extend(busy);
                    continue;
                }
                Err(failed) => failed,
            };
            let trouble = trouble(&error);
            if trouble == Trouble::Passing {
                tracing::debug!(%error, items = part.len(), "outcomes wait for the database");
                backoff.wait().await;
                part.retain(|item| self.destination.is_wanted(item));
                passing += 1;
                // It answers others: then it is one of these that it cannot serve.
                if passing < PATIENCE || !self.destination.reachable().await {
                    if !part.is_empty() {
                        parts.push(part);
                    }
                    continue;
                }
            }
            if part.len() > 1 {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
            } else if trouble == Trouble::Item {
                parts.extend(self.replaced(part, &error).await);
            } else {
                left.odd.extend(part);
            }
        }
        left
    }

    /// Sends an item that fails alone, until it is clear whether the item is to blame.
    async fn insist(&self, item: D::Item) -> Result<Left<D::Item>, Error> {
        let since = Instant::now();
        let mut backoff = Backoff::default();
        let mut part = vec![item];
        loop {
            backoff.wait().await;
            part.retain(|item| self.destination.is_wanted(item));
            // Closed never.
            let _turn = self.one.acquire().await;
            let (items, error) = match self.store(part).await {
                Ok(busy) => return Ok(Left { busy, odd: Vec::new() }),
                Err(failed) => failed,
            };
            part = match trouble(&error) {
                Trouble::Passing => items,
                Trouble::Installation if !self.has_stored_since(since) && since.elapsed() < BROKEN_FOR => items,
                Trouble::Installation if !self.has_stored_since(since) => return Err(error),
                _ => self.replaced(items, &error).await.into_iter().flatten().collect(),
            };
        }
    }

    async fn store(&self, part: Vec<D::Item>) -> Stored<D::Item> {
        if part.is_empty() {
            return Ok(part);
        }
        let answer = self.destination.store(part).await;
        if answer.is_ok() {
            *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        answer
    }

    fn has_stored_since(&self, time: Instant) -> bool {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|stored| stored > time)
    }

    /// The call that stores something else instead of a single refused item.
    async fn replaced(&self, part: Vec<D::Item>, error: &Error) -> Option<Vec<D::Item>> {
        let item = part.into_iter().next()?;
        Some(vec![self.destination.refused(item, error).await?])
    }
}

/// Makes a call, in halves where the database refuses one of the items, and hands over those that it refuses alone. For what is
/// stored again anyway when it fails: gives the first other error back.
pub(crate) async fn in_halves<T, F>(
    items: Vec<T>,
    call: impl Fn(Vec<T>) -> F,
    mut refused: impl FnMut(T, &Error),
) -> Result<(), Error>
where
    F: Future<Output = (Vec<T>, Result<(), Error>)>,
{
    let mut parts = vec![items];
    while let Some(part) = parts.pop() {
        let (mut part, outcome) = call(part).await;
        match outcome {
            Ok(()) => {}
            Err(error) if trouble(&error) != Trouble::Item => return Err(error),
            Err(error) if part.len() == 1 => part.drain(..).for_each(|item| refused(item, &error)),
            Err(_) => {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
