//! The pool, and calls that are tried again while the database is away.

use std::{sync::Arc, time::Instant};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};

use super::{
    connection::Connection,
    listener::Listener,
    opening::Opener,
    tls::{self, Tls},
};
use crate::{Calls, Config, Error, Result, SchemaName, retry::Backoff};

/// A Longhaul installation in a database, reached through a bounded pool. Cheap to clone; clones share the pool.
#[derive(Clone, Debug)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    pool: Pool,
    tls: Tls,
}

impl Database {
    /// Makes the pool. No connection is opened before the first call.
    pub fn new(config: &Config) -> Result<Self> {
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let postgres = config.connection.postgres.clone();
        let tls = Tls(tls::connector(&config.connection)?);
        let manager = Manager::from_connect(
            postgres,
            Opener { tls: tls.clone(), call_timeout: config.call_timeout },
            manager_config,
        );
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .timeouts(Timeouts {
                wait: Some(config.pool_wait),
                create: Some(config.pool_wait),
                recycle: Some(config.pool_wait),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Error::Invalid(format!("the pool cannot be made: {e}")))?;
        Ok(Self { inner: Arc::new(Inner { config: config.clone(), pool, tls }) })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The schema of this installation.
    pub fn schema(&self) -> &SchemaName {
        &self.inner.config.schema
    }

    /// The tenant for whom calls are made.
    pub fn tenant(&self) -> &str {
        &self.inner.config.tenant
    }

    /// The same installation for another tenant, through the same pool.
    pub fn for_tenant(&self, tenant: &str) -> Result<Self> {
        let config = self.inner.config.clone().tenant(tenant)?;
        let inner = Inner { config, pool: self.inner.pool.clone(), tls: self.inner.tls.clone() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A connection of the pool, for statements of the caller's own. Waits at most [`Config::pool_wait`].
    pub async fn connection(&self) -> Result<Connection> {
        Ok(Connection::new(self.inner.pool.get().await?, self.inner.config.call_timeout, self.inner.tls.clone()))
    }

    /// The database functions, on a connection of the pool.
    pub async fn calls(&self) -> Result<Calls<Connection>> {
        Ok(Calls::on(self.connection().await?, self.schema().clone()))
    }

    /// Makes a call, again and again with growing waits while the database cannot be reached, for [`Config::retry_for`].
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
                Err(error) if error.is_transient() && started.elapsed() < self.inner.config.retry_for => {
                    tracing::debug!(%error, "trying again");
                    backoff.wait().await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Opens a connection of its own that receives the notifications of a channel.
    pub async fn listen(&self, channel: &str) -> Result<Listener> {
        let wait = self.inner.config.pool_wait;
        tokio::time::timeout(wait, Listener::open(&self.inner.config.connection, channel))
            .await
            .map_err(|_| Error::unreachable(format!("no connection for notifications within {wait:?}")))?
    }

    /// Connections of the pool: open, and of these idle.
    pub fn pool_status(&self) -> (usize, usize) {
        let status = self.inner.pool.status();
        (status.size, status.available)
    }

    /// Closes the pool. Calls from now on fail.
    pub fn close(&self) {
        self.inner.pool.close();
    }
}
