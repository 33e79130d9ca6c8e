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
    /// The database user lacks a privilege.
    #[error("the database refuses this user: {0}")]
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
    /// The connection could not be made or was lost, or no connection became free in time. Trying again may help.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The database answered something that cannot be: a defect, or a damaged installation.
    #[error("unexpected answer of the database: {0}")]
    Corrupt(String),
    /// Any other error of the database.
    #[error("database error: {}", describe(.0))]
    Database(#[source] tokio_postgres::Error),
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }
}

/// The message of a database error with its detail, or the chain of causes of a connection error.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
        return format!("{}{detail} [{}]", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // Conversion errors come from our own parameters and rows; all others are the connection's.
            return if error.is_closed() || has_io_cause(&error) || error.to_string().starts_with("error connecting") {
                Error::Unavailable(describe(&error))
            } else {
                Error::Database(error)
            };
        };
        let message = db.message().to_owned();
        let code = db.code();
        match code.code() {
            "LH001" => Error::Invalid(message),
            "LH002" => Error::NotFound(message),
            "LH003" => Error::Refused(message),
            "LH004" => Error::Conflict(message),
            "LH005" => Error::WorkerLost(message),
            _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => Error::Denied(message),
            _ if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_FUNCTION, SqlState::INVALID_SCHEMA_NAME]
                .contains(code) =>
            {
                Error::NotInstalled(message)
            }
            _ if is_transient_state(code) => Error::Unavailable(describe(&error)),
            // Data exceptions and program limits: the values of this call do not fit.
            other if other.starts_with("22") || other.starts_with("54") => {
                Error::Invalid(format!("the database refuses a value: {message}"))
            }
            _ => Error::Database(error),
        }
    }
}

fn has_io_cause(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// States that pass by themselves: lost and refused connections, shutdown and failover, deadlocks, timeouts, full disks.
fn is_transient_state(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    // 08 connection, 53 insufficient resources, 57P operator intervention, 40 transaction rollback.
    matches!(class, "08" | "53" | "40")
        || code.code().starts_with("57P")
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::LOCK_NOT_AVAILABLE
        || *code == SqlState::QUERY_CANCELED
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::PoolError;
        match error {
            PoolError::Backend(inner) => match Error::from(inner) {
                // Whatever keeps a connection from being made may pass, except what an operator must change.
                other @ (Error::Denied(_) | Error::Unavailable(_)) => other,
                other => match other {
                    Error::Database(ref inner)
                        if inner
                            .as_db_error()
                            .is_some_and(|db| db.code().code().starts_with("28") || db.code().code() == "3D000") =>
                    {
                        Error::Denied(other.to_string())
                    }
                    other => Error::Unavailable(other.to_string()),
                },
            },
            PoolError::Timeout(_) => Error::Unavailable("no connection of the pool became free in time".into()),
            other => Error::Unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_transient() {
        for code in ["08006", "57P01", "40001", "40P01", "53300", "25006", "55P03"] {
            assert!(is_transient_state(&SqlState::from_code(code)), "{code} may be tried again");
        }
        for code in ["22P02", "23505", "42601", "P0001"] {
            assert!(!is_transient_state(&SqlState::from_code(code)), "{code} will not change");
        }
    }
}
