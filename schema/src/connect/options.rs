//! libpq connection strings and `PG*` variables.
//!
//! tokio-postgres reads most of both forms of connection string; what it does not know (`sslmode=allow|verify-ca|verify-full`,
//! `sslrootcert`, `sslcert`, `sslkey`, `passfile`) is taken out first and handled here.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tokio_postgres::config::{Host, TargetSessionAttrs};

use super::password_file;
use crate::{Error, Result};

/// How much of TLS is demanded; the words and meanings are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server insists. Treated as `prefer`.
    Allow,
    /// TLS if the server offers it, without checking its certificate. The default.
    Prefer,
    /// TLS or nothing; the certificate is checked only if a root certificate file is given.
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate must name the host.
    VerifyFull,
}

impl SslMode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(Error::Invalid(format!(
                    "sslmode is {other:?}; it can be disable, allow, prefer, require, verify-ca or verify-full"
                )));
            }
        })
    }
}

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
}

/// Keys that are handled here and unknown to tokio-postgres.
const OWN_KEYS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "passfile"];

impl ConnectOptions {
    /// Reads a connection string; an empty one leaves everything to the `PG*` variables and the defaults.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`ConnectOptions::parse`], with the variables given by a function.
    pub fn parse_with(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let (rest, own) = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            split_url(text)?
        } else {
            split_pairs(text)?
        };
        let mut postgres = tokio_postgres::Config::from_str(&rest).map_err(|e| {
            let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
            Error::Invalid(format!("the connection string is malformed: {e}{cause}"))
        })?;
        fill_in(&mut postgres, &rest, &variable)?;

        let setting = |key: &str, name: &str| {
            own.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()).or_else(|| variable(name))
        };
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
        Ok(Self {
            postgres,
            ssl_mode,
            ssl_root_cert: setting("sslrootcert", "PGSSLROOTCERT").map(PathBuf::from),
            ssl_cert: setting("sslcert", "PGSSLCERT").map(PathBuf::from),
            ssl_key: setting("sslkey", "PGSSLKEY").map(PathBuf::from),
        })
    }

    /// The same as a connection string of `key=value` pairs, for other processes. It holds the password.
    pub fn to_url(&self) -> String {
        let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let list = |items: Vec<String>| quote(&items.join(","));
        let postgres = &self.postgres;
        let hosts = postgres.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let mut text = format!("host={} sslmode={}", list(hosts.collect()), self.ssl_mode.as_str());
        if !postgres.get_ports().is_empty() {
            text += &format!(" port={}", list(postgres.get_ports().iter().map(u16::to_string).collect()));
        }
        let password = postgres.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        for (key, value) in [
            ("user", postgres.get_user().map(str::to_owned)),
            ("password", password),
            ("dbname", postgres.get_dbname().map(str::to_owned)),
            ("options", postgres.get_options().map(str::to_owned)),
            ("sslrootcert", file(&self.ssl_root_cert)),
            ("sslcert", file(&self.ssl_cert)),
            ("sslkey", file(&self.ssl_key)),
        ] {
            if let Some(value) = value {
                text += &format!(" {key}={}", quote(&value));
            }
        }
        text
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

type OwnSettings = Vec<(String, String)>;

fn split_url(text: &str) -> Result<(String, OwnSettings)> {
    let Some((base, query)) = text.split_once('?') else { return Ok((text.into(), Vec::new())) };
    let mut kept = Vec::new();
    let mut own = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let key = part.split('=').next().unwrap_or_default();
        if OWN_KEYS.contains(&key) {
            own.extend(url::form_urlencoded::parse(part.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())));
        } else {
            kept.push(part);
        }
    }
    Ok((if kept.is_empty() { base.into() } else { format!("{base}?{}", kept.join("&")) }, own))
}

/// `key=value` pairs: values with spaces stand in single quotes, and a backslash escapes a quote or a backslash.
fn split_pairs(text: &str) -> Result<(String, OwnSettings)> {
    let mut rest = text.trim_start();
    let mut kept = String::new();
    let mut own = Vec::new();
    while !rest.is_empty() {
        let malformed = || {
            Error::Invalid(
                "the connection string is malformed: it is neither a postgres:// URL nor key=value pairs".into(),
            )
        };
        let (key, after) = rest.split_once('=').ok_or_else(malformed)?;
        let key = key.trim();
        let after = after.trim_start();
        let mut value = String::new();
        let quoted = after.starts_with('\'');
        let mut characters = after.char_indices().skip(usize::from(quoted)).peekable();
        let mut end = after.len();
        let mut closed = !quoted;
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                '\'' if quoted => {
                    end = at + 1;
                    closed = true;
                    break;
                }
                c if c.is_whitespace() && !quoted => {
                    end = at;
                    break;
                }
                c => value.push(c),
            }
        }
        if key.is_empty() || !closed {
            return Err(malformed());
        }
        if OWN_KEYS.contains(&key) {
            own.push((key.to_owned(), value));
        } else {
            kept.push_str(&format!("{key}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'")));
        }
        rest = after[end..].trim_start();
    }
    Ok((kept, own))
}

/// Whatever the connection string leaves open comes from the variables, then from libpq's defaults.
fn fill_in(
    postgres: &mut tokio_postgres::Config,
    text: &str,
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
    if postgres.get_application_name().is_none() {
        postgres.application_name(variable("PGAPPNAME").unwrap_or_else(|| "longhaul".into()));
    }
    if postgres.get_connect_timeout().is_none() {
        let timeout = variable("PGCONNECT_TIMEOUT")
            .map(|t| t.parse().map_err(|_| invalid("PGCONNECT_TIMEOUT", &t)))
            .transpose()?;
        postgres.connect_timeout(Duration::from_secs(timeout.unwrap_or(10)));
    }
    // A connection whose other end is gone is to be noticed in a minute, not in the two hours that systems allow.
    if !text.contains("keepalives") {
        postgres
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
    }
    if !text.contains("tcp_user_timeout") {
        postgres.tcp_user_timeout(Duration::from_secs(60));
    }
    if !text.contains("target_session_attrs")
        && let Some(attributes) = variable("PGTARGETSESSIONATTRS")
    {
        postgres.target_session_attrs(match attributes.as_str() {
            "any" => TargetSessionAttrs::Any,
            "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
            other => return Err(invalid("PGTARGETSESSIONATTRS", other)),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let text = r"host=db1,db2 port=5433,5434 user='a b' password='it\'s \\' dbname=app sslmode=verify-ca sslrootcert='/c a.pem'";
        let options = ConnectOptions::parse_with(text, none).unwrap();
        let again = ConnectOptions::parse_with(&options.to_url(), none).unwrap();
        assert_eq!(again.to_url(), options.to_url());
        assert_eq!(again.postgres, options.postgres);
        assert_eq!(again.postgres.get_password(), Some(r"it's \".as_bytes()));
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
