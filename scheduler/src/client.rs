//! The client: everything that starts, reads or steers runs.

use longhaul_schema::{
    Config, Database, Flow, Payload,
    calls::{AttemptInfo, Deployed, Executor, FlowInfo, NewRun, RunFilter, RunInfo, StepInfo},
    migrate,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{BulkStarted, Error, RunHandle, Start, start};

/// Starts, reads and steers the runs of one tenant. Cheap to clone; clones share a pool.
///
/// Calls are tried again while the database cannot be reached, for [`Config::retry_for`]. A start whose answer was lost is
/// asked for again under the same id, and so never happens twice.
#[derive(Clone, Debug)]
pub struct Client {
    database: Database,
    max_payload: usize,
}

impl Client {
    /// Connects, and checks that Longhaul is installed there in the version of this program.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        Self::on(Database::new(config)?).await
    }

    /// As [`Client::connect`], with a pool that exists already.
    pub async fn on(database: Database) -> Result<Self, Error> {
        migrate::check(&database).await?;
        let limit = database.calls().await?.setting("max_payload_bytes").await?;
        Ok(Self { database, max_payload: usize::try_from(limit).unwrap_or(usize::MAX) })
    }

    /// The pool, for calls that this client does not have.
    pub fn database(&self) -> &Database {
        &self.database
    }

    // Flows --------------------------------------------------------------------------------------------------------

    /// Deploys a flow version. The same definition again changes nothing; another one under the same version is refused.
    pub async fn deploy(&self, flow: &Flow) -> Result<Deployed, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.deploy(tenant, flow).await }).await
    }

    /// All flow versions, by name and version.
    pub async fn flows(&self) -> Result<Vec<FlowInfo>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.list_flows(tenant).await }).await
    }

    /// One flow version, the latest when none is named.
    pub async fn flow(&self, name: &str, version: Option<i32>) -> Result<FlowInfo, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.get_flow(tenant, name, version).await }).await
    }

    // Starting -----------------------------------------------------------------------------------------------------

    /// Starts a run of the latest version of a flow.
    pub async fn start(&self, flow: &str, input: &impl Serialize) -> Result<RunHandle, Error> {
        Start::new(input)?.send(self, flow).await
    }

    /// Starts a run with options: name, priority, delay, version, id.
    pub async fn start_with(&self, flow: &str, start: Start) -> Result<RunHandle, Error> {
        start.send(self, flow).await
    }

    /// Starts a run in the caller's own transaction: it exists if and only if that commits.
    ///
    /// A transaction of a `tokio_postgres::Client` or of a pool's connection, on the same database. Nothing is tried again here.
    pub async fn start_in(&self, transaction: &impl Executor, flow: &str, start: Start) -> Result<Uuid, Error> {
        start.send_in(self, transaction, flow).await
    }

    /// Starts any number of runs of one flow in one transaction; 100,000 are one call. Each is accepted or refused for itself;
    /// an error means that none was started.
    pub async fn start_many<T: Serialize>(
        &self,
        flow: &str,
        inputs: impl IntoIterator<Item = T>,
    ) -> Result<BulkStarted, Error> {
        let mut refused = Vec::new();
        let mut runs = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            match self.payload(&input) {
                Ok(input) => runs.push((index, NewRun::new(input))),
                Err(error) => refused.push((index, error.to_string())),
            }
        }
        start::send_many(self, flow, runs, refused).await
    }

    /// An input, checked.
    pub(crate) fn payload(&self, input: &impl Serialize) -> Result<Payload, Error> {
        let payload = Payload::new(input)?;
        payload.check_size(self.max_payload)?;
        Ok(payload)
    }

    pub(crate) fn check_size(&self, payload: &Payload) -> Result<(), Error> {
        payload.check_size(self.max_payload)
    }

    // Reading ------------------------------------------------------------------------------------------------------

    /// A run that was started earlier or elsewhere. Does not ask the database whether it exists.
    pub fn run(&self, id: Uuid) -> RunHandle {
        RunHandle::new(self.clone(), id)
    }

    /// The present state of a run.
    pub async fn get(&self, id: Uuid) -> Result<RunInfo, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.get_run(tenant, id).await }).await
    }

    /// Runs of this tenant, newest first; `filter.tenant` is ignored.
    pub async fn list(&self, filter: &RunFilter) -> Result<Vec<RunInfo>, Error> {
        let filter = RunFilter { tenant: self.database.tenant().into(), ..filter.clone() };
        let filter = &filter;
        self.database.retrying(|calls| async move { calls.list_runs(filter).await }).await
    }

    /// The steps of a run, in the order of its flow.
    pub async fn steps(&self, run: Uuid) -> Result<Vec<StepInfo>, Error> {
        self.get(run).await?;
        self.database.retrying(|calls| async move { calls.list_steps(run).await }).await
    }

    /// The attempts of a run that did not complete their steps.
    pub async fn attempts(&self, run: Uuid) -> Result<Vec<AttemptInfo>, Error> {
        self.get(run).await?;
        self.database.retrying(|calls| async move { calls.list_attempts(run).await }).await
    }

    /// One sentence that says why a step is not running.
    pub async fn why(&self, run: Uuid, step: &str) -> Result<String, Error> {
        self.get(run).await?;
        self.database.retrying(|calls| async move { calls.why(run, step).await }).await
    }
}
