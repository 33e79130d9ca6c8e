//! Connection options written back, for other processes.

use std::{path::PathBuf, time::Duration};

use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslNegotiation, TargetSessionAttrs};

use super::{grammar::quoted_value, options::ConnectOptions};

impl ConnectOptions {
    /// The same as a connection string of `key=value` pairs, for other processes. It holds the password.
    pub fn to_url(&self) -> String {
        let mut pairs = self.where_to();
        pairs.extend(self.as_whom());
        pairs.extend(self.how());
        let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", quoted_value(value))).collect();
        pairs.join(" ")
    }

    fn where_to(&self) -> Pairs {
        let postgres = &self.postgres;
        let hosts = postgres.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let lists = [
            ("host", hosts.collect::<Vec<_>>()),
            ("hostaddr", postgres.get_hostaddrs().iter().map(ToString::to_string).collect()),
            ("port", postgres.get_ports().iter().map(u16::to_string).collect()),
        ];
        let mut pairs: Pairs =
            lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, list.join(","))).collect();
        pairs.push(("target_session_attrs", session_attributes(postgres.get_target_session_attrs()).into()));
        if postgres.get_load_balance_hosts() == LoadBalanceHosts::Random {
            pairs.push(("load_balance_hosts", "random".into()));
        }
        pairs
    }

    fn as_whom(&self) -> Pairs {
        let postgres = &self.postgres;
        let password = postgres.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let text = |value: Option<&str>| value.map(str::to_owned);
        present([
            ("user", text(postgres.get_user())),
            ("password", password),
            ("dbname", text(postgres.get_dbname())),
            ("options", text(postgres.get_options())),
            ("application_name", text(postgres.get_application_name())),
        ])
    }

    fn how(&self) -> Pairs {
        let postgres = &self.postgres;
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        // Whole seconds, as the string has them; a fraction of one is not nothing.
        let seconds = |time: Option<Duration>| time.map(|t| t.as_secs_f64().ceil().max(1.0).to_string());
        let mut pairs = present([
            ("sslmode", Some(self.ssl_mode.as_str().to_owned())),
            ("sslrootcert", file(&self.ssl_root_cert)),
            ("sslcert", file(&self.ssl_cert)),
            ("sslkey", file(&self.ssl_key)),
            ("sslsni", (!self.ssl_sni).then(|| "0".into())),
            ("channel_binding", Some(channel_binding(postgres.get_channel_binding()).into())),
            ("sslnegotiation", (postgres.get_ssl_negotiation() == SslNegotiation::Direct).then(|| "direct".into())),
            ("connect_timeout", seconds(postgres.get_connect_timeout().copied())),
            // None at all is said as well: left out, it would be a minute.
            ("tcp_user_timeout", seconds(postgres.get_tcp_user_timeout().copied()).or_else(|| Some("0".into()))),
            ("keepalives", Some(u8::from(postgres.get_keepalives()).to_string())),
            ("keepalives_idle", seconds(Some(postgres.get_keepalives_idle()))),
            ("keepalives_interval", seconds(postgres.get_keepalives_interval())),
            ("keepalives_retries", postgres.get_keepalives_retries().map(|n| n.to_string())),
        ]);
        pairs.extend(self.tls_versions.settings().map(|(key, value)| (key, value.to_owned())));
        pairs
    }
}

type Pairs = Vec<(&'static str, String)>;

fn present<const N: usize>(pairs: [(&'static str, Option<String>); N]) -> Pairs {
    pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn session_attributes(attributes: TargetSessionAttrs) -> &'static str {
    match attributes {
        TargetSessionAttrs::ReadWrite => "read-write",
        TargetSessionAttrs::ReadOnly => "read-only",
        _ => "any",
    }
}

fn channel_binding(binding: ChannelBinding) -> &'static str {
    match binding {
        ChannelBinding::Disable => "disable",
        ChannelBinding::Require => "require",
        _ => "prefer",
    }
}
