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
//! | jobs whose name, input and output are tied at compile time | [`Job`] |
//! | testing | the feature `testing`, and the crate `longhaul-testing` |
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
//!         .handler("payment.charge", charge)
//!         .handler("mail.receipt", receipt)
//!         .queue("default", 64)
//!         .build()?
//!         .run_until(shutdown_signal())
//!         .await?;
//!     Ok(())
//! }
//! ```

// What programs name every day.
pub use longhaul_scheduler::{
    BulkStarted, Client, IntoStart, JobHandle, Missed, Overlap, RunHandle, Schedule, Scheduler, Start, Unique,
    blocking, schedules,
};
pub use longhaul_schema::{
    Approval, Budget, Concurrency, Config, Database, Error, Exceeded, Fair, Flow, Job, OnFailure, OnTimeout, Pauses,
    Payload, Phase, Retry, SchemaName, Span, Step, WaitSignal, lock, migrate,
};
pub use longhaul_worker::{
    BoxFuture, Branch, DebounceSettings, DebouncedWriter, Decision, Handler, Middleware, Next, Observer, OutcomeEvent,
    OutcomeReport, OutcomeStream, Policy, Question, Registry, Signalled, Slots, Status, StepContext, StepError,
    Summary, Verdict, Worker, WorkerBuilder, branch, debounce, shutdown_signal,
};

// What the methods of these take and give.
pub use longhaul_schema::calls::{
    Answer, AttemptInfo, AttemptKey, DeadLetter, DeadLetterFilter, Executor, FlowInfo, LockInfo, NewSignal,
    OpenQuestion, Operation, OperationOptions, Progress, QueueInfo, QueueLimits, RunFilter, RunInfo, RunPage, RunState,
    ScheduleInfo, StepInfo, StepKey, StepState, TimelineEntry,
};

/// Calling a handler in a test, without a database. For whole flows there is the crate `longhaul-testing`.
#[cfg(feature = "testing")]
pub use longhaul_worker::testing;

/// The driver whose transactions [`Client::start_in`] and [`StepContext::complete_in`] take, in the version that fits.
pub use tokio_postgres;

/// Low level: one typed call for each function of the database. Programs seldom need it; [`Client`] and [`Worker`] stand on it.
pub mod calls {
    #[doc(inline)]
    pub use longhaul_schema::calls::*;
}

/// Low level: connection strings, TLS, the pool.
pub mod connect {
    #[doc(inline)]
    pub use longhaul_schema::connect::*;
}

/// Low level: cron expressions with time zones, as schedules read them.
pub mod cron {
    #[doc(inline)]
    pub use longhaul_scheduler::cron::*;
}
