//! What connection strings leave open: the `PG*` variables, and libpq's defaults.

use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslNegotiation};

use super::grammar::Split;
use crate::{Error, Result};

/// Whatever the connection string leaves open comes from the variables, then from libpq's defaults.
pub(super) fn fill_in(
    postgres: &mut tokio_postgres::Config,
    split: &Split,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let invalid = |name: &str, value: &str| Error::Invalid(format!("{name} is {value:?}, which cannot be used"));
    if postgres.get_hosts().is_empty() && postgres.get_hostaddrs().is_empty() {
        match variable("PGHOST") {
            Some(hosts) => {
                for host in hosts.split(',') {
                    postgres.host(host);
                }
            }
            None => {
                let socket_folder = ["/var/run/postgresql", "/tmp"]
                    .into_iter()
                    .find(|folder| std::path::Path::new(&format!("{folder}/.s.PGSQL.5432")).exists());
                postgres.host(socket_folder.unwrap_or("localhost"));
            }
        }
        if let Some(addresses) = variable("PGHOSTADDR") {
            for address in addresses.split(',') {
                postgres.hostaddr(address.parse().map_err(|_| invalid("PGHOSTADDR", address))?);
            }
        }
    }
    if postgres.get_ports().is_empty()
        && let Some(ports) = variable("PGPORT")
    {
        for port in ports.split(',') {
            postgres.port(port.parse().map_err(|_| invalid("PGPORT", port))?);
        }
    }
    if postgres.get_user().is_none() {
        let user = variable("PGUSER").or_else(|| variable("USER")).unwrap_or_else(|| "postgres".into());
        postgres.user(user);
    }
    if postgres.get_password().is_none()
        && let Some(password) = variable("PGPASSWORD")
    {
        postgres.password(password);
    }
    if postgres.get_dbname().is_none()
        && let Some(name) = variable("PGDATABASE")
    {
        postgres.dbname(name);
    }
    if postgres.get_options().is_none()
        && let Some(options) = variable("PGOPTIONS")
    {
        postgres.options(options);
    }
    if postgres.get_connect_timeout().is_none() {
        let timeout: Option<i64> = variable("PGCONNECT_TIMEOUT")
            .map(|t| t.trim().parse().map_err(|_| invalid("PGCONNECT_TIMEOUT", &t)))
            .transpose()?;
        // Nothing is waited for without a limit, as 0 would have it.
        let seconds = timeout.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0).unwrap_or(10);
        postgres.connect_timeout(Duration::from_secs(seconds));
    }
    // A connection whose other end is gone is to be noticed in a minute, not in the two hours that systems allow.
    if !split.has("keepalives") {
        postgres
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
    }
    if !split.has("tcp_user_timeout") {
        postgres.tcp_user_timeout(Duration::from_secs(60));
    }
    if !split.has("channel_binding")
        && let Some(word) = variable("PGCHANNELBINDING")
    {
        postgres.channel_binding(match word.as_str() {
            "disable" => ChannelBinding::Disable,
            "prefer" => ChannelBinding::Prefer,
            "require" => ChannelBinding::Require,
            other => return Err(invalid("PGCHANNELBINDING", other)),
        });
    }
    if !split.has("load_balance_hosts")
        && let Some(word) = variable("PGLOADBALANCEHOSTS")
    {
        postgres.load_balance_hosts(match word.as_str() {
            "disable" => LoadBalanceHosts::Disable,
            "random" => LoadBalanceHosts::Random,
            other => return Err(invalid("PGLOADBALANCEHOSTS", other)),
        });
    }
    if !split.has("sslnegotiation")
        && let Some(word) = variable("PGSSLNEGOTIATION")
    {
        postgres.ssl_negotiation(match word.as_str() {
            "postgres" => SslNegotiation::Postgres,
            "direct" => SslNegotiation::Direct,
            other => return Err(invalid("PGSSLNEGOTIATION", other)),
        });
    }
    Ok(())
}
