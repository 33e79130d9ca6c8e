//! Starts: one with options, or many at once.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Calls, Payload,
    calls::{Executor, NewRun, NotStarted, StartRuns},
    connect::Connection,
    payload::into_calls,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{Client, Error, RunHandle};

/// A run to be started, with options.
///
/// ```no_run
/// # async fn run(client: longhaul_scheduler::Client) -> Result<(), longhaul_scheduler::Error> {
/// use std::{collections::HashMap, time::Duration};
/// use longhaul_scheduler::Start;
///
/// let reminder = Start::new(&"call back")?.name("Ms Miller").priority(-10).delay(Duration::from_secs(3600));
/// client.start_with("remind", reminder).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Start {
    run: NewRun,
    version: Option<i32>,
    unique: Option<(String, Unique)>,
}

/// How long the key of a unique start counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// As long as the run lives.
    WhileLive,
    /// For this time from the start on.
    For(Duration),
    /// For ever: an idempotency key.
    Forever,
}

impl Start {
    /// A start at once, of the latest version, with the flow's own priorities.
    pub fn new(input: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::from_payload(Payload::new(input)?))
    }

    /// As [`Start::new`], with an input that is JSON already.
    pub fn from_payload(input: Payload) -> Self {
        Self { run: NewRun::new(input), version: None, unique: None }
    }

    /// Under this id, a UUIDv7 made within a day of now. Starting twice under one id starts once.
    pub fn id(mut self, id: Uuid) -> Self {
        self.run.id = id;
        self
    }

    /// With a name for people, at most 200 characters; not unique.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.run.name = Some(name.into());
        self
    }

    /// This version of the flow.
    pub fn version(mut self, version: i32) -> Self {
        self.version = Some(version);
        self
    }

    /// This priority for all its steps, from -1000 to 1000; lower goes first.
    pub fn priority(mut self, priority: i16) -> Self {
        self.run.priority = Some(priority);
        self
    }

    /// The run fails unless it has ended so long from now.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.run.deadline = Some(deadline);
        self
    }

    /// Unless a run of the flow was started under this key and the key still counts: then that one is given.
    ///
    /// Not together with [`Start::at`], [`Start::create_only`], [`Start::deadline`] or [`Start::id`].
    pub fn unique(mut self, key: impl Into<String>, unique: Unique) -> Self {
        self.unique = Some((key.into(), unique));
        self
    }

    /// Only creates the run: it is pending until [`RunHandle::start`].
    pub fn create_only(mut self) -> Self {
        self.run.create_only = true;
        self
    }

    /// With metadata: an object to find the run by and to show its progress.
    pub fn metadata(mut self, metadata: &impl Serialize) -> Result<Self, Error> {
        self.run.metadata = Some(Payload::new(metadata)?);
        Ok(self)
    }

    /// Not before so long from now, by the database's clock.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.run.delay = Some(delay);
        self
    }

    /// Not before this time, by the database's clock.
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.run.start_at = Some(time);
        self
    }

    pub(crate) async fn send(self, client: &Client, flow: &str) -> Result<RunHandle, Error> {
        client.check_size(&self.run.input)?;
        if let Some((key, unique)) = &self.unique {
            let tenant = client.database().tenant();
            let window = match unique {
                Unique::WhileLive => None,
                Unique::For(window) => Some(*window),
                Unique::Forever => Some(FOREVER),
            };
            let (run, version) = (&self.run, self.version);
            let start = |calls: Calls<Connection>| async move {
                calls.start_unique(tenant, flow, version, run, key, window).await
            };
            let (id, _existing) = client.database().retrying(start).await?;
            return Ok(client.run(id));
        }
        let batch = self.batch(client, flow);
        let refused = client.database().retrying(|calls| async move { calls.start_runs(batch).await }).await?;
        accept(&refused)?;
        Ok(client.run(self.run.id))
    }

    pub(crate) async fn send_in(self, client: &Client, transaction: &impl Executor, flow: &str) -> Result<Uuid, Error> {
        client.check_size(&self.run.input)?;
        let calls = Calls::on(transaction, client.database().schema().clone());
        accept(&calls.start_runs(self.batch(client, flow)).await?)?;
        Ok(self.run.id)
    }

    fn batch<'a>(&'a self, client: &'a Client, flow: &'a str) -> StartRuns<'a> {
        StartRuns {
            tenant: client.database().tenant(),
            flow,
            version: self.version,
            runs: std::slice::from_ref(&self.run),
        }
    }
}

/// A run that exists already under its id has been started by an earlier call.
fn accept(not_started: &[NotStarted]) -> Result<(), Error> {
    match not_started.iter().find_map(|item| item.refusal.clone()) {
        Some(reason) => Err(Error::Invalid(reason)),
        None => Ok(()),
    }
}

/// What became of a bulk start. Positions are those of the inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkStarted {
    /// Ids of the runs that were started, each with the position of its input.
    pub started: Vec<(usize, Uuid)>,
    /// Inputs that were refused, each with the reason.
    pub refused: Vec<(usize, String)>,
}

impl BulkStarted {
    /// The ids of the started runs.
    pub fn ids(&self) -> Vec<Uuid> {
        self.started.iter().map(|(_, id)| *id).collect()
    }
}

/// A hundred years.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Runs in one call of the database: enough that a call's own cost is nothing, and little enough for a bounded statement.
const RUNS_PER_CALL: usize = 2000;

/// Starts all runs in one transaction: when it fails, none was started. Repeated after a lost answer, it finds them there.
pub(crate) async fn send_many(
    client: &Client,
    flow: &str,
    runs: Vec<(usize, NewRun)>,
    mut refused: Vec<(usize, String)>,
) -> Result<BulkStarted, Error> {
    let (places, runs): (Vec<usize>, Vec<NewRun>) = runs.into_iter().unzip();
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
    let calls = &into_calls(runs, RUNS_PER_CALL, |run| run.input.as_str().len());
    let not_started =
        client.database().retrying(|connection| start_all(connection.into_executor(), client, flow, calls)).await?;

    let refusals: HashMap<Uuid, String> =
        not_started.into_iter().filter_map(|item| Some((item.id, item.refusal?))).collect();
    let mut started = Vec::with_capacity(ids.len());
    for (place, id) in places.into_iter().zip(ids) {
        match refusals.get(&id) {
            Some(reason) => refused.push((place, reason.clone())),
            None => started.push((place, id)),
        }
    }
    refused.sort();
    Ok(BulkStarted { started, refused })
}

async fn start_all(
    mut connection: Connection,
    client: &Client,
    flow: &str,
    calls: &[Vec<NewRun>],
) -> Result<Vec<NotStarted>, Error> {
    let database = client.database();
    let transaction = connection.transaction().await?;
    let mut not_started = Vec::new();
    for runs in calls {
        let batch = StartRuns { tenant: database.tenant(), flow, version: None, runs };
        not_started.extend(Calls::on(&transaction, database.schema().clone()).start_runs(batch).await?);
    }
    transaction.commit().await?;
    Ok(not_started)
}
