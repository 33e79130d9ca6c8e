//! Longhaul: a durable job queue and workflow backend on PostgreSQL.
//!
//! **Runs** of **flows** are rows; their **steps** are claimed by workers with `FOR UPDATE SKIP LOCKED`, owned by lease and
//! heartbeat, and completed exactly once. This package joins the three that a program needs:
//!
//! | for | use |
//! | --- | --- |
//! | deploying flows, starting and reading runs | [`Client`], [`Flow`], [`Step`], [`Start`] |
//! | doing steps | [`Worker`], [`StepContext`], [`StepError`] |
//! | retries, timers, schedules, expired leases, partitions | a [`Worker`] too, when nobody else does; in a big fleet a [`Scheduler`] |
//! | installing | [`migrate`] (or `longhaul migrate`) |
//!
//! One process is a whole system:
//!
//! ```no_run
//! use longhaul::{Client, Config, Database, Flow, Retry, Step, StepContext, StepError, Worker, migrate, shutdown_signal};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { id: u64, cents: u64 }
//!
//! async fn charge(ctx: StepContext, order: Order) -> Result<String, StepError> {
//!     // Give the provider a key that is the same for every attempt, and it will charge once.
//!     Ok(format!("charged {} cents with key {}", order.cents, ctx.idempotency_key()))
//! }
//!
//! async fn receipt(ctx: StepContext, order: Order) -> Result<String, StepError> {
//!     let charged: String = ctx.output("charge").await?;
//!     Ok(format!("order {}: {charged}", order.id))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), longhaul::Error> {
//!     let config = Config::from_env()?;
//!     migrate::migrate(&Database::new(&config)?).await?;
//!     let client = Client::connect(&config).await?;
//!     client.deploy(&Flow::new("order", 1)
//!         .step(Step::new("charge", "payment.charge").retry(Retry::exponential(5)))
//!         .step(Step::new("receipt", "mail.receipt").after("charge"))).await?;
//!     client.start("order", &Order { id: 7, cents: 1999 }).await?;
//!
//!     Worker::builder(&config)
//!         .handler("payment.charge", charge)?
//!         .handler("mail.receipt", receipt)?
//!         .queue("default", 64)?
//!         .build()?
//!         .run_until(shutdown_signal())
//!         .await?;
//!     Ok(())
//! }
//! ```

pub use longhaul_scheduler::{
    BulkStarted, Client, IntoStart, Missed, Overlap, RunHandle, Schedule, Scheduler, Start, Unique, blocking, cron,
    schedules,
};
pub use longhaul_schema::{
    Approval, Budget, Concurrency, Config, Database, Error, Exceeded, Fair, Flow, OnFailure, OnTimeout, Pauses,
    Payload, Phase, Retry, SchemaName, Span, Step, WaitSignal, calls, connect, lock, migrate,
};
pub use longhaul_worker::{
    Branch, DebounceSettings, DebouncedWriter, Decision, Handler, Observer, OutcomeEvent, OutcomeReport, OutcomeStream,
    Policy, Question, Registry, Signalled, Slots, Status, StepContext, StepError, Summary, Verdict, Worker,
    WorkerBuilder, branch, debounce, shutdown_signal,
};
