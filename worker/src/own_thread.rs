//! Work on a thread of its own, with a runtime of its own: handlers that block all threads of theirs do not touch it.

use std::time::Duration;

use longhaul_schema::Error;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The thread. Its work is dropped when this is.
#[derive(Debug)]
pub(crate) struct OwnThread<T> {
    outcome: oneshot::Receiver<T>,
    _stop: DropGuard,
}

impl<T: Send + 'static> OwnThread<T> {
    /// Begins the work, whose future is made on the thread.
    pub(crate) fn start<Fut>(name: &str, work: impl FnOnce() -> Fut + Send + 'static) -> Result<Self, Error>
    where
        Fut: Future<Output = T>,
    {
        let failed = |e: std::io::Error| Error::Unavailable(format!("the thread {name} cannot be started: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (sender, outcome) = oneshot::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                if let Some(outcome) = runtime.block_on(stopped.run_until_cancelled(work())) {
                    // Nobody waits for it any more: nothing to do.
                    let _ = sender.send(outcome);
                }
                // Look-ups of names may be under way, and are not waited for.
                runtime.shutdown_timeout(Duration::from_millis(100));
            })
            .map_err(failed)?;
        Ok(Self { outcome, _stop: stop.drop_guard() })
    }

    /// What the work gave; `None` when it panicked.
    pub(crate) async fn outcome(&mut self) -> Option<T> {
        (&mut self.outcome).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_seen_and_what_is_dropped_ends() {
        let mut thread = OwnThread::start("panics", || async {
            if std::thread::current().name() == Some("panics") {
                panic!("as it must");
            }
        })
        .unwrap();
        assert_eq!(thread.outcome().await, None);

        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let thread = OwnThread::start("waits", move || async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        })
        .unwrap();
        drop(thread);
        assert_eq!(ended.recv().await, None, "the work is dropped");
    }
}
