//! libpq connection strings and `PG*` variables.
//!
//! tokio-postgres reads most of both forms of connection string; what it does not know (`sslmode=verify-full`, `sslrootcert`,
//! `passfile` and others) is taken out first and handled here.

use std::{path::PathBuf, str::FromStr};

use tokio_postgres::config::Host;

use super::{
    demands::{self, OWN_KEYS},
    environment::fill_in,
    grammar::Split,
    password_file,
    ssl_mode::{SslMode, TlsVersions},
};
use crate::{Error, Result};

/// Everything needed to open a connection.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Hosts, ports, user, password, database, timeouts, session attributes.
    pub postgres: tokio_postgres::Config,
    /// How much of TLS is demanded.
    pub ssl_mode: SslMode,
    /// File with trusted certificates (PEM), or `system`; the system's own when absent.
    pub ssl_root_cert: Option<PathBuf>,
    /// The client's certificate (PEM).
    pub ssl_cert: Option<PathBuf>,
    /// The client's private key (PEM).
    pub ssl_key: Option<PathBuf>,
    /// Versions of TLS that are allowed.
    pub tls_versions: TlsVersions,
    /// Whether the server is told in clear which host is wanted (`sslsni`).
    pub ssl_sni: bool,
}

impl ConnectOptions {
    /// Reads a connection string; an empty one leaves everything to the `PG*` variables and the defaults.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`ConnectOptions::parse`], with the variables given by a function.
    pub fn parse_with(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let split = Split::of(text, OWN_KEYS)?;
        demands::refuse_unknown(&split, &variable)?;
        let mut postgres = tokio_postgres::Config::from_str(&split.rest).map_err(|e| {
            let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
            Error::Invalid(format!("the connection string is malformed: {e}{cause}"))
        })?;
        let setting = |key: &str, name: &str| split.get(key).or_else(|| variable(name));
        fill_in(&mut postgres, &split, &variable)?;
        let attributes = setting("target_session_attrs", "PGTARGETSESSIONATTRS");
        postgres.target_session_attrs(demands::session_attributes(attributes.as_deref())?);
        if postgres.get_application_name().is_none() {
            let name = variable("PGAPPNAME").or_else(|| split.get("fallback_application_name"));
            postgres.application_name(name.unwrap_or_else(|| "longhaul".into()));
        }

        let ssl_mode = setting("sslmode", "PGSSLMODE").map_or(Ok(SslMode::Prefer), |mode| mode.parse())?;
        let ssl_mode = without_tls_on_sockets(ssl_mode, &postgres)?;
        if postgres.get_password().is_none() {
            let file = setting("passfile", "PGPASSFILE")
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".pgpass")));
            if let Some(password) = file.and_then(|file| password_file::find(&file, &postgres)) {
                postgres.password(password);
            }
        }
        postgres.ssl_mode(match ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Allow | SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        });
        let lowest = setting("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION");
        let highest = setting("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION");
        // No certificate of the client's is shown when that is forbidden.
        let shown = setting("sslcertmode", "PGSSLCERTMODE").as_deref() != Some("disable");
        let file = |key: &str, name: &str| setting(key, name).map(PathBuf::from);
        Ok(Self {
            ssl_mode,
            ssl_root_cert: file("sslrootcert", "PGSSLROOTCERT"),
            ssl_cert: file("sslcert", "PGSSLCERT").filter(|_| shown),
            ssl_key: file("sslkey", "PGSSLKEY").filter(|_| shown),
            tls_versions: TlsVersions::between(lowest.as_deref(), highest.as_deref())?,
            ssl_sni: setting("sslsni", "PGSSLSNI").as_deref() != Some("0"),
            postgres,
        })
    }

    /// Where this leads, without secrets: `user@host:port/database`.
    pub fn describe(&self) -> String {
        let hosts: Vec<String> = self
            .postgres
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(i, host)| {
                let ports = self.postgres.get_ports();
                let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    #[cfg(unix)]
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        let user = self.postgres.get_user().unwrap_or("?");
        format!("{user}@{}/{}", hosts.join(","), self.postgres.get_dbname().unwrap_or(user))
    }
}

/// As in libpq, a Unix socket never carries TLS, whatever `sslmode` says.
fn without_tls_on_sockets(mode: SslMode, postgres: &tokio_postgres::Config) -> Result<SslMode> {
    let sockets = postgres.get_hosts().iter().filter(|host| !matches!(host, Host::Tcp(_))).count();
    match mode {
        mode if sockets == 0 => Ok(mode),
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => Ok(SslMode::Disable),
        _ if sockets == postgres.get_hosts().len() => Ok(SslMode::Disable),
        _ => Err(Error::Invalid("sslmode demands TLS, but some of the hosts are Unix sockets, which have none".into())),
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};

    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn both_forms_say_the_same() {
        let url = ConnectOptions::parse_with("postgres://me:s%20t@db1:5433,db2:5434/app?sslmode=verify-full&sslrootcert=/ca.pem&target_session_attrs=read-write", none).unwrap();
        let pairs = ConnectOptions::parse_with(
            r"host=db1,db2 port=5433,5434 user=me password='s t' dbname=app sslmode=verify-full sslrootcert='/ca.pem' target_session_attrs=read-write",
            none,
        )
        .unwrap();
        for options in [url, pairs] {
            assert_eq!(options.describe(), "me@db1:5433,db2:5434/app");
            assert_eq!(options.postgres.get_password(), Some("s t".as_bytes()));
            assert_eq!(options.ssl_mode, SslMode::VerifyFull);
            assert_eq!(options.ssl_root_cert, Some("/ca.pem".into()));
            assert_eq!(options.postgres.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
    }

    #[test]
    fn variables_fill_in_what_the_string_leaves_open() {
        let variable = |name: &str| {
            Some(
                match name {
                    "PGHOST" => "db3",
                    "PGPORT" => "6000",
                    "PGUSER" => "anna",
                    "PGDATABASE" => "jobs",
                    "PGSSLMODE" => "require",
                    "PGAPPNAME" => "mine",
                    _ => return None,
                }
                .to_owned(),
            )
        };
        let options = ConnectOptions::parse_with("", variable).unwrap();
        assert_eq!(options.describe(), "anna@db3:6000/jobs");
        assert_eq!(options.ssl_mode, SslMode::Require);
        assert_eq!(options.postgres.get_application_name(), Some("mine"));
        let options = ConnectOptions::parse_with("postgres://bert@db4/other?sslmode=disable", variable).unwrap();
        // A URL that names a host without a port means port 5432, whatever PGPORT says.
        assert_eq!(options.describe(), "bert@db4:5432/other");
        assert_eq!(options.ssl_mode, SslMode::Disable);
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = r"host=db1,db2 hostaddr=10.0.0.1,10.0.0.2 port=5433,5434 user='a b' password='it\'s \\ keepalives' dbname=app sslmode=verify-ca
            sslrootcert='/c a.pem' sslcert=/c.pem sslkey=/k.pem target_session_attrs=read-write connect_timeout=3 application_name=mine
            channel_binding=require load_balance_hosts=random options='-c geqo=off' keepalives_idle=7 tcp_user_timeout=0 sslsni=0
            ssl_min_protocol_version=TLSv1.3 sslnegotiation=direct";
        let options = ConnectOptions::parse_with(text, none).unwrap();
        let again = ConnectOptions::parse_with(&options.to_url(), none).unwrap();
        assert_eq!(again.to_url(), options.to_url());
        assert_eq!(again.postgres, options.postgres);
        assert_eq!(again.postgres.get_password(), Some(r"it's \ keepalives".as_bytes()));
        assert_eq!((again.tls_versions, again.ssl_sni), (TlsVersions::Only13, false));
        assert_eq!(again.postgres.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn what_restricts_is_obeyed_or_refused() {
        let from = |name: &'static str, value: &'static str| {
            ConnectOptions::parse_with("host=db", move |n| (n == name).then(|| value.into()))
        };
        for (name, value) in [
            ("PGSERVICE", "prod"),
            ("PGREQUIREAUTH", "scram-sha-256"),
            ("PGSSLCRL", "/crl.pem"),
            ("PGSSLCRLDIR", "/crls"),
            ("PGREQUIREPEER", "postgres"),
            ("PGGSSENCMODE", "require"),
            ("PGSSLCERTMODE", "require"),
            ("PGTARGETSESSIONATTRS", "standby"),
            ("PGSSLMINPROTOCOLVERSION", "TLSv1.4"),
            ("PGCHANNELBINDING", "perhaps"),
        ] {
            let error = from(name, value).unwrap_err().to_string();
            assert!(error.contains(value), "{name}: {error}");
        }
        for text in [
            "service=prod",
            "require_auth=scram-sha-256",
            "sslcrl=/crl.pem",
            "requirepeer=root",
            "gssencmode=require",
            "nonsense=1",
        ] {
            ConnectOptions::parse_with(text, none).unwrap_err();
        }
        ConnectOptions::parse_with("postgres://db/app?service=prod", none).unwrap_err();
        for (name, value) in [("PGGSSENCMODE", "prefer"), ("PGSSLCERTMODE", "allow"), ("PGSSLCOMPRESSION", "1")] {
            from(name, value).unwrap();
        }
        let options = from("PGCHANNELBINDING", "require").unwrap();
        assert_eq!(options.postgres.get_channel_binding(), ChannelBinding::Require);
        for text in ["host=db target_session_attrs=primary", "postgres://db/app?target_session_attrs=primary"] {
            let options = ConnectOptions::parse_with(text, none).unwrap();
            assert_eq!(options.postgres.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
        let options = ConnectOptions::parse_with("host=db sslcert=/c sslkey=/k sslcertmode=disable", none).unwrap();
        assert_eq!((options.ssl_cert, options.ssl_key), (None, None));
    }

    #[test]
    fn sockets_carry_no_tls() {
        for mode in ["prefer", "require", "verify-full"] {
            let options = ConnectOptions::parse_with(&format!("host=/run/pg sslmode={mode}"), none).unwrap();
            assert_eq!(options.ssl_mode, SslMode::Disable);
        }
        assert!(ConnectOptions::parse_with("host=/run/pg,db sslmode=require", none).is_err());
        assert_eq!(ConnectOptions::parse_with("host=db sslmode=require", none).unwrap().ssl_mode, SslMode::Require);
    }

    #[test]
    fn what_is_malformed_is_refused_without_a_panic() {
        for text in [
            "nonsense",
            "host='open",
            "=x",
            "postgres://h/db?sslmode=maybe",
            "host=a port=x",
            "postgres://[::1",
            "host=a sslmode=",
        ] {
            assert!(ConnectOptions::parse_with(text, none).is_err(), "{text:?}");
        }
        assert!(ConnectOptions::parse_with("host=a", |name| (name == "PGPORT").then(|| "x".into())).is_err());
    }
}
