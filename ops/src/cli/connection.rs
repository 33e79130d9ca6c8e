//! Where the database is.

use clap::Args;
use longhaul_scheduler::Client;
use longhaul_schema::{Config, Error};

/// Options that all commands have. The variables are read here and not by the parser of arguments, which would show what they
/// set as a part of every usage line.
#[derive(Clone, Debug, Args)]
pub(super) struct ConnectionArguments {
    /// Connection string: a postgres:// URL or key=value pairs. What it leaves open comes from the PG* variables. [env:
    /// DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// PostgreSQL schema of the installation; longhaul by default. [env: LONGHAUL_SCHEMA]
    #[arg(long, global = true, value_name = "NAME")]
    schema: Option<String>,
    /// Tenant to act for; default by default. [env: LONGHAUL_TENANT]
    #[arg(long, global = true, value_name = "NAME")]
    tenant: Option<String>,
}

/// What was said, or what the variable says.
fn or_variable(said: Option<&str>, name: &str) -> Option<String> {
    said.map(str::to_owned).or_else(|| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

impl ConnectionArguments {
    fn url(&self) -> Option<String> {
        or_variable(self.database_url.as_deref(), "DATABASE_URL")
    }

    fn schema(&self) -> String {
        or_variable(self.schema.as_deref(), "LONGHAUL_SCHEMA").unwrap_or_else(|| "longhaul".into())
    }

    fn tenant(&self) -> String {
        or_variable(self.tenant.as_deref(), "LONGHAUL_TENANT").unwrap_or_else(|| "default".into())
    }

    /// Settings for this database. A command for people does not wait as long as a worker.
    pub(super) fn config(&self) -> Result<Config, Error> {
        let mut config = self.process_config()?;
        config.retry_for = std::time::Duration::from_secs(5);
        Ok(config)
    }

    /// The same for workers and schedulers, which are patient.
    pub(super) fn process_config(&self) -> Result<Config, Error> {
        self.apply(Config::from_url(&self.url().unwrap_or_default())?)
    }

    /// What tells a child process of the same. The connection string may hold a password, so that it is no argument.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let url = self.url().map(|url| ("DATABASE_URL", url));
        url.into_iter().chain([("LONGHAUL_SCHEMA", self.schema()), ("LONGHAUL_TENANT", self.tenant())])
    }

    /// Schema and tenant for another database.
    pub(super) fn apply(&self, config: Config) -> Result<Config, Error> {
        config.schema(&self.schema())?.tenant(&self.tenant())
    }

    pub(super) async fn client(&self) -> Result<Client, Error> {
        let config = self.config()?.pool_size(2);
        Client::connect(&config).await.map_err(|error| match error {
            Error::Unavailable(why) => {
                let nothing_said = self.url().is_none() && std::env::var_os("PGHOST").is_none();
                let hint = if nothing_said { "; neither --database-url nor DATABASE_URL says where it is" } else { "" };
                Error::Unavailable(format!("{why} (tried {}{hint})", config.connection.describe()))
            }
            other => other,
        })
    }
}
