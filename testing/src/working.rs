//! A worker within a test.

use longhaul_worker::{Error, Summary, Worker};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A worker that runs in the background of a test. Dropped, it is told to stop and not waited for.
#[derive(Debug)]
pub struct Working {
    stop: DropGuard,
    task: JoinHandle<Result<Summary, Error>>,
}

impl Working {
    pub(crate) fn start(worker: Worker) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { worker.run_until(async move { stopped.cancelled().await }).await });
        Self { stop: stop.drop_guard(), task }
    }

    /// Stops it as a shutdown does: what runs is finished, the rest goes back.
    pub async fn stop(self) -> Result<Summary, Error> {
        self.stop.disarm().cancel();
        self.task.await.map_err(|error| Error::Corrupt(format!("the worker panicked: {error}")))?
    }

    /// Ends it without a word, as a crash of its process would: its steps go to others when their leases expire.
    pub fn kill(self) {
        self.task.abort();
        self.stop.disarm();
    }
}
