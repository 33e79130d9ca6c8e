//! Claiming steps and doing them.
//!
//! A [`Worker`] registers, claims ready steps of its queues in batches, runs their handlers concurrently within its slots,
//! and sends the outcomes back in batches. No transaction, row lock or pool connection is held while a handler runs.
//! In the order in which a step passes:
//!
//! | module | what it does |
//! | --- | --- |
//! | [`builder`] | settings: handlers, queues and slots, heartbeat, shutdown |
//! | [`registry`] | handlers by name |
//! | `session` | one registration: starts what follows, and ends it all when the worker leaves or is lost |
//! | `wakeup` | notifications that there is work |
//! | `engine` | owns the state: slots, steps in flight; decides when to claim |
//! | `queue` | what the engine knows of a queue: free slots, whether to look, whether to be notified |
//! | `claim` | one round trip to the queues |
//! | [`policy`] | asked before each dispatch whether a step may begin |
//! | `execute` | one attempt: handler, timeout, panic, cancellation, suspension |
//! | [`durable`] | checkpoints, sleeps, signals, child runs and branches in handlers |
//! | `stuck` | names handlers that block their thread |
//! | `batch` | the sender: batches that form by themselves, and what is done when a call fails |
//! | `completer` | what ended, on its way through the sender |
//! | [`debounce`], `report` | the debounced writer; progress of steps and figures of queues that go through it |
//! | [`measure`] | what a worker measures of itself, for metrics |
//! | [`observe`] | status and outcomes for observers that slow nobody |
//! | `heartbeat`, `own_thread` | renews the leases on a thread of its own, and learns which were lost |
//! | `lease_clock` | until when leases may be taken for the worker's own |
//! | `chores` | does the chores when nobody else does |
//! | `tasks`, `closing` | watches the tasks of a session; the last things that a worker says |
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
//! Worker::builder(&config).handler("greet", greet)?.queue("default", 32)?.build()?.run_until(shutdown_signal()).await?;
//! # Ok(()) }
//! ```

mod batch;
pub mod builder;
mod chores;
mod claim;
mod closing;
mod completer;
pub mod context;
pub mod debounce;
pub mod durable;
mod engine;
mod execute;
mod heartbeat;
mod lease_clock;
pub mod measure;
pub mod observe;
mod own_thread;
pub mod policy;
mod processor;
mod queue;
pub mod registry;
mod report;
mod session;
pub mod shutdown;
pub mod step_error;
mod stuck;
mod tasks;
mod wakeup;

pub use builder::{Worker, WorkerBuilder, hostname};
pub use context::StepContext;
pub use debounce::{DebounceSettings, DebouncedWriter};
pub use durable::{Branch, Decision, Question, Signalled, branch};
/// Errors of a worker are those of the database layer.
pub use longhaul_schema::Error;
pub use observe::{Observer, OutcomeReport, Outcomes, Report, Status};
pub use policy::{Policy, Verdict};
pub use queue::Slots;
pub use registry::{Handler, Registry};
pub use session::Summary;
pub use shutdown::shutdown_signal;
pub use step_error::StepError;
