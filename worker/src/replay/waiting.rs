//! Whether a function can be suspended: it waits for something durable, and nothing of it runs in this process.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use longhaul_schema::calls::{AttemptKey, FlowStep, NewWait};

use super::place_of_call;
use crate::stuck;

/// What one attempt waits for. Its own: no other step touches it.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By place, so that the order is the function's.
    awaited: BTreeMap<String, NewWait>,
    /// Operations that run in this process.
    active: usize,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to suspend for, when there is nothing else to do.
    pub(crate) fn to_suspend_for(&self) -> Option<Vec<NewWait>> {
        let state = self.state();
        (state.active == 0 && !state.awaited.is_empty()).then(|| state.awaited.values().cloned().collect())
    }

    /// Something runs in this process until the guard is dropped.
    pub(crate) fn active(&self) -> Active<'_> {
        self.state().active += 1;
        Active(self)
    }
}

/// Keeps a function from being suspended.
pub(crate) struct Active<'a>(&'a Waiting);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.state().active -= 1;
    }
}

/// Waits for something durable. Never completes: the function is suspended, and called again when the answer is there.
pub(crate) struct Suspended {
    waiting: Arc<Waiting>,
    path: String,
}

impl Suspended {
    pub(crate) fn new(waiting: Arc<Waiting>, awaited: NewWait) -> Self {
        let path = awaited.path.clone();
        waiting.state().awaited.insert(path.clone(), awaited);
        Self { waiting, path }
    }
}

impl Future for Suspended {
    type Output = std::convert::Infallible;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        // A branch that lost a race waits no longer.
        self.waiting.state().awaited.remove(&self.path);
    }
}

/// Runs a handler until it ends (`Ok`) or is to be suspended (`Err`).
pub(crate) async fn until_suspended<T>(
    handler: impl Future<Output = T>,
    waiting: Arc<Waiting>,
    key: AttemptKey,
    step: &Arc<FlowStep>,
) -> Result<T, Vec<NewWait>> {
    let mut handler = std::pin::pin!(handler);
    let mut poll = |context: &mut Context<'_>| {
        place_of_call::in_handler(key, || stuck::watched(key, step, || handler.as_mut().poll(context)))
    };
    std::future::poll_fn(|context| match poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
        Poll::Pending => match waiting.to_suspend_for() {
            Some(awaited) => Poll::Ready(Err(awaited)),
            None => Poll::Pending,
        },
    })
    .await
}
