//! Longhaul's ground floor: the database and everything that is known about it.
//!
//! All state transitions are functions in the database, set-based and fenced; this crate installs them and calls them.
//! SQL text stands here and nowhere else. In the order in which data passes:
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`connect`] | where the database is, which schema and tenant to use; libpq URLs and `PG*` variables, TLS, the pool, notifications |
//! | [`migrate`] | tables as versioned migrations, functions and views as files that are installed when they changed |
//! | [`flow`] | definitions of flows: steps, their order, retries |
//! | [`job`] | a job: name, input and output tied at compile time |
//! | [`payload`] | JSON on its way in: size, depth, and what PostgreSQL cannot store |
//! | [`backoff`] | growing waits while the database is away |
//! | [`calls`] | one typed method for each database function |
//! | [`duration`] | durations on their way to the database and back |
//! | [`error`] | what can go wrong, by what a caller can do about it |
//!
//! ```no_run
//! # async fn run() -> Result<(), longhaul_schema::Error> {
//! use longhaul_schema::{Config, Database, migrate};
//!
//! let database = Database::new(&Config::from_env()?)?;
//! migrate::migrate(&database).await?;
//! let calls = database.calls().await?;
//! let runs = calls.list_runs(&Default::default()).await?;
//! # Ok(()) }
//! ```

pub mod backoff;
pub mod calls;
pub mod connect;
pub mod duration;
pub mod error;
pub mod flow;
pub mod job;
pub mod lock;
pub mod migrate;
pub mod names;
pub mod payload;
pub mod span;

pub use calls::Calls;
pub use connect::{Config, Database};
pub use error::Error;
pub use flow::{
    Approval, Budget, Concurrency, Exceeded, Fair, Flow, OnFailure, OnTimeout, Pauses, Phase, Retry, Step, WaitSignal,
};
pub use job::Job;
pub use names::SchemaName;
pub use payload::Payload;
pub use span::Span;

/// What every call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
