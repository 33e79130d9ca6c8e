//! Where the database is.

use clap::Args;
use longhaul_scheduler::Client;
use longhaul_schema::{Config, Error};

/// Options that all commands have.
#[derive(Clone, Debug, Args)]
pub(super) struct ConnectionArguments {
    /// Connection string: a postgres:// URL or key=value pairs. What it leaves open comes from the PG* variables.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// PostgreSQL schema of the installation.
    #[arg(long, global = true, env = "LONGHAUL_SCHEMA", default_value = "longhaul", value_name = "NAME")]
    schema: String,
    /// Tenant to act for.
    #[arg(long, global = true, env = "LONGHAUL_TENANT", default_value = "default", value_name = "NAME")]
    tenant: String,
}

impl ConnectionArguments {
    /// Settings for this database. A command for people does not wait as long as a worker.
    pub(super) fn config(&self) -> Result<Config, Error> {
        let mut config = self.process_config()?;
        config.retry_for = std::time::Duration::from_secs(5);
        Ok(config)
    }

    /// The same for workers and schedulers, which are patient.
    pub(super) fn process_config(&self) -> Result<Config, Error> {
        self.apply(Config::from_url(self.database_url.as_deref().unwrap_or_default())?)
    }

    /// What tells a child process of the same. The connection string may hold a password, so that it is no argument.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let url = self.database_url.as_deref().map(|url| ("DATABASE_URL", url));
        url.into_iter().chain([("LONGHAUL_SCHEMA", self.schema.as_str()), ("LONGHAUL_TENANT", self.tenant.as_str())])
    }

    /// Schema and tenant for another database.
    pub(super) fn apply(&self, config: Config) -> Result<Config, Error> {
        config.schema(&self.schema)?.tenant(&self.tenant)
    }

    pub(super) async fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.config()?.pool_size(2)).await
    }
}
