//! The client for programs without an async runtime. Each call blocks its thread until the database has answered.
//!
//! ```no_run
//! use longhaul_scheduler::blocking::Client;
//! use longhaul_schema::Config;
//!
//! # fn run() -> Result<(), longhaul_scheduler::Error> {
//! let client = Client::connect(&Config::from_env()?)?;
//! let run = client.start("hello", &"world")?;
//! let greeting: String = run.output()?;
//! // Whatever has no method here:
//! let dead = client.call(|client| async move { client.dead_letters(&longhaul_schema::calls::DeadLetterFilter::of("")).await })?;
//! # Ok(()) }
//! ```

use std::{fmt, sync::Arc, time::Duration};

use longhaul_schema::{
    Config, Flow,
    calls::{Deployment, RunFilter, RunInfo},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{BulkStarted, Error, IntoStart, Start};

/// As [`crate::Client`], but blocking. Cheap to clone; clones share a pool and a background thread. Must not be used within
/// an async runtime: that would panic.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    client: crate::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("blocking::Client").field(&self.client).finish()
    }
}

impl Client {
    /// Connects, and checks that Longhaul is installed there in the version of this program.
    pub fn connect(config: &Config) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("longhaul-client")
            .enable_all()
            .build()
            .map_err(|e| Error::Unavailable(format!("no background thread can be started: {e}")))?;
        let client = runtime.block_on(crate::Client::connect(config))?;
        Ok(Self { runtime: Arc::new(runtime), client })
    }

    /// Does anything that the async client can do.
    pub fn call<T, Fut: Future<Output = Result<T, Error>>>(
        &self,
        call: impl FnOnce(crate::Client) -> Fut,
    ) -> Result<T, Error> {
        self.runtime.block_on(call(self.client.clone()))
    }

    /// Deploys a flow version. The same definition again changes nothing.
    pub fn deploy(&self, flow: &Flow) -> Result<Deployment, Error> {
        self.runtime.block_on(self.client.deploy(flow))
    }

    /// Starts a run of the latest version of a flow.
    pub fn start(&self, flow: &str, input: &impl Serialize) -> Result<RunHandle, Error> {
        self.start_with(flow, Start::new(input)?)
    }

    /// Starts a run with options: name, priority, delay, version, id.
    pub fn start_with(&self, flow: &str, start: Start) -> Result<RunHandle, Error> {
        Ok(self.run(self.runtime.block_on(self.client.start_with(flow, start))?.id()))
    }

    /// Starts any number of runs of one flow in one transaction: of inputs, or of [`Start`]s.
    pub fn start_many<S: IntoStart>(
        &self,
        flow: &str,
        items: impl IntoIterator<Item = S>,
    ) -> Result<BulkStarted, Error> {
        self.runtime.block_on(self.client.start_many(flow, items))
    }

    /// A run that was started earlier or elsewhere.
    pub fn run(&self, id: Uuid) -> RunHandle {
        RunHandle { runtime: self.runtime.clone(), run: self.client.run(id) }
    }

    /// Runs of this tenant, newest first.
    pub fn list(&self, filter: &RunFilter) -> Result<Vec<RunInfo>, Error> {
        self.runtime.block_on(self.client.list(filter))
    }
}

/// As [`crate::RunHandle`], but blocking.
#[derive(Clone, Debug)]
pub struct RunHandle {
    runtime: Arc<Runtime>,
    run: crate::RunHandle,
}

impl RunHandle {
    /// The run's id.
    pub fn id(&self) -> Uuid {
        self.run.id()
    }

    /// Does anything that the async handle can do.
    pub fn call<T, Fut: Future<Output = Result<T, Error>>>(
        &self,
        call: impl FnOnce(crate::RunHandle) -> Fut,
    ) -> Result<T, Error> {
        self.runtime.block_on(call(self.run.clone()))
    }

    /// Its present state.
    pub fn get(&self) -> Result<RunInfo, Error> {
        self.runtime.block_on(self.run.get())
    }

    /// Waits until the run has ended, however it ended; `None` when it has not within `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<Option<RunInfo>, Error> {
        self.runtime.block_on(self.run.wait(timeout))
    }

    /// Waits until the run has completed, and reads its output.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.runtime.block_on(self.run.output())
    }

    /// Sends a signal to the run.
    pub fn signal(&self, topic: &str, payload: &impl Serialize) -> Result<i64, Error> {
        self.runtime.block_on(self.run.signal(topic, payload))
    }

    /// Stops the run.
    pub fn stop(&self) -> Result<(), Error> {
        self.runtime.block_on(self.run.stop())
    }
}
