//! Calls on a connection of the pool, and calls that are tried again while the database is away.

use std::time::Instant;

use super::Calls;
use crate::{
    Result,
    backoff::Backoff,
    connect::{Connection, Database},
};

impl Database {
    /// The database functions, on a connection of the pool.
    pub async fn calls(&self) -> Result<Calls<Connection>> {
        Ok(Calls::on(self.connection().await?, self.schema().clone()))
    }

    /// Makes a call, again and again with growing waits while the database cannot be reached, for [`Config::retry_for`](crate::Config::retry_for).
    ///
    /// Only for calls that may be made twice: reads, and transitions that know their own repetition (starting a run under an
    /// id, ending an attempt). After a lost answer the second call finds out what became of the first.
    pub async fn retrying<T, F>(&self, mut call: impl FnMut(Calls<Connection>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let outcome = match self.calls().await {
                Ok(calls) => call(calls).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.is_transient() && started.elapsed() < self.config().retry_for => {
                    tracing::debug!(%error, "trying again");
                    backoff.wait().await;
                }
                outcome => return outcome,
            }
        }
    }
}
