//! Testing flows and handlers of Longhaul.
//!
//! A handler by itself is called without a database, by [`TestStep`]. A whole flow is run on a real PostgreSQL server, in a database
//! that belongs to one test, by [`TestDatabase`]; a sleep of two weeks passes at once.
//!
//! ```
//! use std::time::Duration;
//! use longhaul_scheduler::Start;
//! use longhaul_schema::{Flow, Step};
//! use longhaul_testing::TestDatabase;
//! use longhaul_worker::{StepContext, StepError};
//!
//! async fn remind(ctx: StepContext, name: String) -> Result<String, StepError> {
//!     ctx.sleep("two weeks", Duration::from_secs(14 * 86_400)).await?;
//!     Ok(format!("{name}, your trial ends today"))
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), longhaul_schema::Error> {
//! // In a test: #[tokio::test] async fn a_trial_ends_after_two_weeks() { … }
//! let db = TestDatabase::new().await;
//! db.client().deploy(&Flow::new("trial", 1).step(Step::new("remind", "remind"))).await?;
//! let worker = db.work(db.worker().handler("remind", remind));
//!
//! let run = db.client().start("trial", &"Ada").await?;
//! let ended = db.run_to_end(&run).await?;
//! assert_eq!(ended.state.as_str(), "completed");
//! assert_eq!(run.output::<String>().await?, "Ada, your trial ends today");
//! worker.stop().await?;
//! db.close().await;
//! # Ok(()) }
//! ```
//!
//! The server is a private one, which is started for the first test of a process and ends with it. It needs the programs of
//! PostgreSQL (`ops/install-postgres`, or a package of the system). `DATABASE_URL` names another server instead, whose user must be
//! allowed to make databases.

mod database;
mod working;

pub use database::TestDatabase;
pub use longhaul_worker::testing::{Called, End, TestStep};
pub use working::Working;
