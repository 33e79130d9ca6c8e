//! Claiming steps and doing them.
//!
//! A [`Worker`] registers, claims ready steps of its queues in batches, runs their handlers concurrently within its slots,
//! and sends the outcomes back in batches. No transaction, row lock or pool connection is held while a handler runs.
//! In the order in which a step passes:
//!
//! | module | what it does |
//! | --- | --- |
//! | [`builder`], `settings` | settings: handlers, queues and slots, heartbeat, shutdown |
//! | [`registry`] | handlers by name |
//! | `worker`, `registration` | a worker's life; one registration of it, with the tasks that belong together |
//! | `wakeup` | notifications that there is work |
//! | `engine`, `event` | owns the state: slots, steps in flight; decides when to claim; what it is told |
//! | `queue`, `slots`, `pace` | what the engine knows of a queue: free slots, whether to look, how much to claim ahead |
//! | `claim` | one round trip to the queues |
//! | [`middleware`] | code around every attempt |
//! | `state`, `store` | what handlers share; what they read of their run |
//! | `testing`, `scripted` | calling a handler in a test, without a database (feature `testing`) |
//! | [`policy`] | asked before each attempt whether a step may begin |
//! | `execute`, `outcome` | one attempt: handler, timeout, panic, cancellation, suspension; and how it ended |
//! | [`context`] | what a handler knows about its step |
//! | [`durable`] | checkpoints, sleeps, signals, child runs and branches in handlers |
//! | `replay` | the history of a durable function, and what it waits for |
//! | `stuck` | names handlers that block their thread |
//! | `batch` | the sender: batches that form by themselves, and what is done when a call fails |
//! | `completer` | what ended, on its way through the sender |
//! | [`debounce`], `sinks` | the debounced writer; progress of steps and figures of queues that go through it |
//! | [`measure`] | what a worker measures of itself, for metrics |
//! | [`observe`] | status and outcomes for observers that slow nobody |
//! | `heartbeat`, `own_thread` | renews the leases on a thread of its own, and learns which were lost |
//! | `lease_clock` | until when leases may be taken for the worker's own |
//! | `chores` | does the chores when nobody else does |
//! | `tasks`, `closing` | watches the tasks of a registration; the last things that a worker says |
//!
//! ```no_run
//! use longhaul_schema::Config;
//! use longhaul_worker::{StepContext, StepError, Worker, shutdown_signal};
//!
//! async fn greet(_: StepContext, name: String) -> Result<String, StepError> {
//!     Ok(format!("Hello, {name}!"))
//! }
//!
//! # async fn run() -> Result<(), longhaul_worker::Error> {
//! let config = Config::from_env()?;
//! Worker::builder(&config).handler("greet", greet).queue("default", 32).build()?.run_until(shutdown_signal()).await?;
//! # Ok(()) }
//! ```

mod batch;
pub mod builder;
mod chores;
mod claim;
mod closing;
mod completer;
pub mod context;
mod cpu;
pub mod debounce;
pub mod durable;
mod engine;
mod event;
mod execute;
mod heartbeat;
mod lease_clock;
pub mod measure;
pub mod middleware;
pub mod observe;
mod outcome;
mod own_thread;
mod pace;
pub mod policy;
mod queue;
mod registration;
pub mod registry;
mod replay;
#[cfg(feature = "testing")]
mod scripted;
mod settings;
pub mod shutdown;
mod sinks;
mod slots;
mod state;
pub mod step_error;
mod store;
mod stuck;
mod summary;
mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;
mod wakeup;
mod worker;

pub use builder::{WorkerBuilder, hostname};
pub use context::StepContext;
pub use debounce::{DebounceSettings, DebouncedWriter};
pub use durable::{Branch, Decision, Question, Signalled, branch};
/// What [`Middleware`], [`Policy`] and [`Handler`] give.
pub use futures::future::BoxFuture;
/// Errors of a worker are those of the database layer.
pub use longhaul_schema::Error;
pub use longhaul_schema::{Config, Job, Payload};
pub use middleware::{Middleware, Next};
pub use observe::{Observer, OutcomeEvent, OutcomeReport, OutcomeStream, Status};
pub use policy::{Policy, Verdict};
pub use registry::{Handler, Registry};
pub use shutdown::shutdown_signal;
pub use slots::Slots;
pub use step_error::StepError;
pub use summary::Summary;
pub use worker::Worker;
