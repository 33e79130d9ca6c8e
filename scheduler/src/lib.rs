//! Starting and steering runs, and the chores that keep a database in order.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`client`] | deploying flows; starting, reading and awaiting runs |
//! | [`start`], [`bulk`] | one start with its options; many at once |
//! | [`jobs`] | starts of typed jobs |
//! | [`handle`] | a started run: waiting for it, reading its output |
//! | [`blocking`] | the client for programs without an async runtime |
//! | [`cron`], [`schedules`] | cron expressions with time zones, and the runs that they start |
//! | [`chores`], `pace`, `stand_in` | the [`Scheduler`], which does chores that are due; any number may run, none is the leader |
//!
//! ```no_run
//! use longhaul_scheduler::Client;
//! use longhaul_schema::{Config, Flow, Step};
//!
//! # async fn run() -> Result<(), longhaul_scheduler::Error> {
//! let client = Client::connect(&Config::from_env()?).await?;
//! client.deploy(&Flow::new("hello", 1).step(Step::new("greet", "greet"))).await?;
//! let run = client.start("hello", &"world").await?;
//! let greeting: String = run.output().await?;
//! # Ok(()) }
//! ```

pub mod blocking;
pub mod bulk;
pub mod chores;
pub mod client;
pub mod cron;
pub mod handle;
pub mod jobs;
mod pace;
pub mod schedules;
mod stand_in;
pub mod start;

pub use bulk::{BulkStarted, IntoStart};
pub use chores::Scheduler;
pub use client::Client;
pub use handle::RunHandle;
pub use jobs::JobHandle;
pub use longhaul_schema::calls::{Missed, Overlap};
pub use schedules::Schedule;
pub use start::{Start, Unique};

/// Errors of this crate are those of the database layer.
pub use longhaul_schema::Error;
