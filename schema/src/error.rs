//! What can go wrong, sorted by what a caller can do about it.

use std::error::Error as StdError;

use tokio_postgres::error::SqlState;

/// An error of the database layer. Messages are sentences for the person who must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is wrong; the same call will never succeed. The message names the place.
    #[error("{0}")]
    Invalid(String),
    /// What was named does not exist (a flow, a run, a step, a setting).
    #[error("{0}")]
    NotFound(String),
    /// The present state does not allow it; the message says which state that is.
    #[error("{0}")]
    Refused(String),
    /// It contradicts something that is stored already, such as another definition of a flow version.
    #[error("{0}")]
    Conflict(String),
    /// The worker is not registered (any more); it has to register anew.
    #[error("{0}")]
    WorkerLost(String),
    /// The database does not let this program in, or not do this: a privilege, a password, a certificate, a database that does not
    /// exist. An operator must change something.
    #[error("{0}")]
    Denied(String),
    /// Longhaul is not installed in this database and schema.
    #[error("Longhaul is not installed here ({0}); run `longhaul migrate`")]
    NotInstalled(String),
    /// The database was installed by a newer release than this program.
    #[error(
        "the database has schema version {found}, but this program knows only versions up to {known}; use a newer release of it"
    )]
    TooNew {
        /// Version that the database has.
        found: u32,
        /// Newest version that this program knows.
        known: u32,
    },
    /// It could not be done now: the connection could not be made or was lost, no connection became free in time, or the database
    /// rolled the transaction back (a deadlock, a full disk, a failover). Trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// The database answered something that cannot be: a defect, or a damaged installation.
    #[error("unexpected answer of the database: {0}")]
    Corrupt(String),
    /// An error of another driver, in whose transaction a call was made.
    #[error("{0}")]
    Driver(#[source] Box<dyn StdError + Send + Sync>),
    /// Any other error of the database.
    #[error("database error: {}", describe(.0))]
    Database(#[source] tokio_postgres::Error),
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }

    /// No connection could be made, or it was lost.
    pub(crate) fn unreachable(why: impl std::fmt::Display) -> Self {
        Error::Unavailable(format!("the database cannot be reached: {why}"))
    }
}

/// The message of a database error with its detail, or the chain of causes of a connection error.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
        return format!("{}{detail} [{}]", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    for inner in causes(error) {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
    }
    text
}

/// The causes of an error, outermost first.
fn causes(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |inner: &&(dyn StdError + 'static)| (*inner).source())
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => from_server(db.code(), db.message(), describe(&error)).unwrap_or(Error::Database(error)),
            None => from_connection(error),
        }
    }
}

/// An error that the server has answered with; `None` when it is none that a caller could tell from others.
pub(crate) fn from_server(code: &SqlState, message: &str, described: String) -> Option<Error> {
    let state = code.code();
    Some(match state {
        "LH001" => Error::Invalid(message.into()),
        "LH002" => Error::NotFound(message.into()),
        "LH003" => Error::Refused(message.into()),
        "LH004" => Error::Conflict(message.into()),
        "LH005" => Error::WorkerLost(message.into()),
        "42501" => Error::Denied(format!(
            "the database refuses this user: {message}; docs/operation.md lists the privileges that are needed"
        )),
        "3D000" => Error::Denied(format!("{message}; the connection string or PGDATABASE names it")),
        // Of a transaction that only reads: a standby, or default_transaction_read_only.
        "25006" => Error::Unavailable(format!("this server accepts no changes, as a standby does: {described}")),
        "42P01" | "42883" | "3F000" => Error::NotInstalled(message.into()),
        _ if lost_statement(code, message) => Error::Unavailable(format!(
            "the connection has forgotten its prepared statements: {described}. When this comes again and again, it looks like a pooler \
             in transaction mode (PgBouncer); let it pool sessions, as docs/operation.md says"
        )),
        _ if state == "0A000" && message.starts_with("cached plan") => {
            Error::Unavailable(format!("the functions of the database were replaced meanwhile: {described}"))
        }
        _ if state.starts_with("28") => Error::Denied(format!("the database refuses this user: {described}")),
        _ if is_away(code) => Error::unreachable(described),
        _ if passes(code) => Error::Unavailable(format!("the database could not do it now: {described}")),
        // Data exceptions and program limits: the values of this call do not fit.
        _ if state.starts_with("22") || state.starts_with("54") => {
            Error::Invalid(format!("the database refuses a value: {message}"))
        }
        _ => return None,
    })
}

/// An error of the connection itself, or of the conversion of our own parameters and rows.
fn from_connection(error: tokio_postgres::Error) -> Error {
    let text = error.to_string();
    if refused_by_tls(&error) || text.starts_with("error performing TLS handshake") && !has_io_cause(&error) {
        return Error::Denied(format!("no TLS connection can be made: {}", describe(&error)));
    }
    if ["authentication error", "invalid configuration"].iter().any(|start| text.starts_with(start)) {
        return Error::Denied(format!("no connection can be made: {}", describe(&error)));
    }
    if error.is_closed() || has_io_cause(&error) || text.starts_with("error connecting") {
        return Error::unreachable(describe(&error));
    }
    Error::Database(error)
}

fn has_io_cause(error: &tokio_postgres::Error) -> bool {
    causes(error).any(|inner| inner.is::<std::io::Error>())
}

/// Whether one side refuses the other's certificate, or they have no version of TLS in common: waiting changes nothing.
fn refused_by_tls(error: &tokio_postgres::Error) -> bool {
    use rustls::Error as Tls;
    causes(error).filter_map(|inner| inner.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Tls>()).any(
        |tls| {
            matches!(
                tls,
                Tls::InvalidCertificate(_)
                    | Tls::InvalidCertRevocationList(_)
                    | Tls::NoCertificatesPresented
                    | Tls::UnsupportedNameType
                    | Tls::PeerIncompatible(_)
                    | Tls::AlertReceived(_)
            )
        },
    )
}

/// Whether the server does not know a prepared statement as the connection does: what was prepared on another connection, or was
/// forgotten. A pooler that changes servers between transactions does that to every program.
pub(crate) fn lost_statement(code: &SqlState, message: &str) -> bool {
    matches!(code.code(), "26000" | "42P05") || code.code() == "08P01" && message.contains("prepared statement")
}

/// Whether the plans or statements of a connection no longer fit: it is of no use any more.
pub(crate) fn spoils_connection(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        lost_statement(db.code(), db.message())
            || db.code().code() == "0A000" && db.message().starts_with("cached plan")
    })
}

/// Lost and refused connections, shutdown and failover.
fn is_away(code: &SqlState) -> bool {
    code.code().starts_with("08") || code.code().starts_with("57P") || *code == SqlState::TOO_MANY_CONNECTIONS
}

/// What passes by itself though the database is there: deadlocks, serialization failures, timeouts, full disks.
fn passes(code: &SqlState) -> bool {
    matches!(&code.code()[..2], "53" | "40" | "58")
        || [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code)
        || matches!(code.code(), "25P03" | "25P04")
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::PoolError;
        match error {
            PoolError::Backend(inner) => match Error::from(inner) {
                // Whatever keeps a connection from being made may pass, except what an operator must change.
                other @ (Error::Denied(_) | Error::Unavailable(_)) => other,
                other => Error::unreachable(other),
            },
            PoolError::Timeout(_) => Error::Unavailable("no connection of the pool became free in time".into()),
            other => Error::unreachable(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, message: &str) -> Option<Error> {
        from_server(&SqlState::from_code(code), message, format!("{message} [{code}]"))
    }

    #[test]
    fn only_what_passes_by_itself_is_transient() {
        for code in ["08006", "57P01", "40001", "40P01", "53300", "53100", "25006", "55P03", "57014", "58030"] {
            assert!(of(code, "x").unwrap().is_transient(), "{code} may be tried again");
        }
        for code in ["22P02", "23505", "42601", "P0001", "28P01", "3D000", "42501"] {
            assert!(!of(code, "x").is_some_and(|e| e.is_transient()), "{code} will not change");
        }
    }

    #[test]
    fn a_message_says_what_is_wrong_and_not_more() {
        for code in ["40001", "40P01", "25006", "53100", "26000"] {
            let text = of(code, "why").unwrap().to_string();
            assert!(text.contains("why") && !text.contains("cannot be reached"), "{text}");
        }
        let text = of("3D000", "database \"nodb\" does not exist").unwrap().to_string();
        assert!(!text.contains("user"), "{text}");
        for (code, message) in [
            ("26000", "prepared statement \"s4\" does not exist"),
            ("42P05", "prepared statement \"s0\" already exists"),
            ("08P01", "bind message supplies 0 parameters, but prepared statement \"s0\" requires 1"),
        ] {
            let text = of(code, message).unwrap().to_string();
            assert!(text.contains("transaction mode (PgBouncer)"), "{text}");
        }
        assert!(!of("08P01", "invalid message format").unwrap().to_string().contains("PgBouncer"));
    }
}
