//! Where the database is and how to use it.

use std::time::Duration;

use super::ConnectOptions;
use crate::{Result, SchemaName, names::check_label};

/// Settings that clients, schedulers and workers share.
#[derive(Clone, Debug)]
pub struct Config {
    /// Servers, database, user, TLS.
    pub connection: ConnectOptions,
    /// PostgreSQL schema of the installation.
    pub schema: SchemaName,
    /// Tenant to whom runs, flows and workers belong.
    pub tenant: String,
    /// Most connections that this process opens for calls (a worker has one more for notifications).
    pub pool_size: usize,
    /// Longest wait for a free connection, and for making a new one.
    pub pool_wait: Duration,
    /// Longest wait for the answer of a call; then the connection is given up, and what became of the call is found out on another.
    pub call_timeout: Duration,
    /// How long idempotent calls are tried again while the database cannot be reached.
    pub retry_for: Duration,
}

impl Config {
    /// From a libpq connection string (a `postgres://` URL or `key=value` pairs); what it leaves open comes from the
    /// `PG*` variables, the password file, and libpq's defaults.
    pub fn from_url(url: &str) -> Result<Self> {
        Ok(Self::new(ConnectOptions::parse(url)?))
    }

    /// From `DATABASE_URL` when it is set, and the `PG*` variables.
    pub fn from_env() -> Result<Self> {
        Self::from_url(&std::env::var("DATABASE_URL").unwrap_or_default())
    }

    /// These connection options, and defaults for the rest: schema `longhaul`, tenant `default`, 8 connections, waits of 10 s
    /// for a connection and of 60 s for an answer, retries for 30 s.
    pub fn new(connection: ConnectOptions) -> Self {
        Self {
            connection,
            schema: SchemaName::default(),
            tenant: "default".into(),
            pool_size: 8,
            pool_wait: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            retry_for: Duration::from_secs(30),
        }
    }

    /// Uses another schema.
    pub fn schema(mut self, name: &str) -> Result<Self> {
        self.schema = name.parse()?;
        Ok(self)
    }

    /// Acts for another tenant.
    pub fn tenant(mut self, name: &str) -> Result<Self> {
        check_label("tenant", name)?;
        self.tenant = name.into();
        Ok(self)
    }

    /// Opens at most so many connections (at least one).
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }
}
