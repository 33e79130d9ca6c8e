//! Starts: one with options, or many at once.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
pub use longhaul_schema::calls::Unique;
use longhaul_schema::{
    Calls, Payload,
    calls::{Executor, NewRun, NotStarted, StartRuns},
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
}

impl Start {
    /// A start at once, of the latest version, with the flow's own priorities.
    pub fn new(input: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::from_payload(Payload::new(input)?))
    }

    /// As [`Start::new`], with an input that is JSON already.
    pub fn from_payload(input: Payload) -> Self {
        Self { run: NewRun::new(input), version: None }
    }

    /// Under this id, a UUIDv7 made within a day of now. Starting twice under one id starts once; with another input, another flow
    /// or another named version, the second is an [`Error::Conflict`].
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

    /// The run fails unless it has ended so long after its start, within 10,000 days. A run that is delayed or only created starts
    /// when its steps may begin.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.run.deadline = Some(deadline);
        self
    }

    /// Unless a run of the flow was started under this key, of 1 to 500 characters, and the key still counts: then that run is
    /// given. When its input, or the version that is named, is another one, that is an [`Error::Conflict`].
    ///
    /// Together with every other option, and in a transaction of the caller's as well.
    pub fn unique(mut self, key: impl Into<String>, unique: Unique) -> Self {
        self.run.unique = Some((key.into(), unique));
        self
    }

    /// Only creates the run: it is pending until [`RunHandle::start`]. Not together with [`Start::at`] or [`Start::delay`].
    pub fn create_only(mut self) -> Self {
        self.run.create_only = true;
        self
    }

    /// With metadata: an object to find the run by and to show its progress.
    pub fn metadata(mut self, metadata: &impl Serialize) -> Result<Self, Error> {
        self.run.metadata = Some(Payload::new(metadata)?);
        Ok(self)
    }

    /// Not before so long from now, or after [`Start::at`], by the database's clock; at most 10,000 days.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.run.delay = Some(delay);
        self
    }

    /// Not before this time, by the database's clock, from 1970 to 10,000 days ahead. A time in the past is now.
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.run.start_at = Some(time);
        self
    }

    pub(crate) async fn send(self, client: &Client, flow: &str) -> Result<RunHandle, Error> {
        self.check(client)?;
        let batch = self.batch(client, flow);
        let answer = client.database().retrying(|calls| async move { calls.start_runs(batch).await }).await?;
        Ok(client.run(started(self.run.id, answer)?))
    }

    pub(crate) async fn send_in(self, client: &Client, transaction: &impl Executor, flow: &str) -> Result<Uuid, Error> {
        self.check(client)?;
        let calls = Calls::on(transaction, client.database().schema().clone());
        started(self.run.id, calls.start_runs(self.batch(client, flow)).await?)
    }

    fn check(&self, client: &Client) -> Result<(), Error> {
        client.check_size(&self.run.input)?;
        self.run.metadata.as_ref().map_or(Ok(()), |metadata| client.check_size(metadata))
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

/// The run that a start has led to: the new one, or the one that was there under its id or its key.
fn started(id: Uuid, not_started: Vec<NotStarted>) -> Result<Uuid, Error> {
    let Some(item) = not_started.into_iter().next() else { return Ok(id) };
    let existing = item.existing.unwrap_or(id);
    item.into_error().map_or(Ok(existing), Err)
}

/// What can be started as one of many: an input alone, or a [`Start`] with all its options.
pub trait IntoStart {
    /// The start of it.
    fn into_start(self) -> Result<Start, Error>;
}

impl IntoStart for Start {
    fn into_start(self) -> Result<Start, Error> {
        Ok(self)
    }
}

impl<T: Serialize> IntoStart for T {
    fn into_start(self) -> Result<Start, Error> {
        Start::new(&self)
    }
}

/// What became of a bulk start. Positions are those of the items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkStarted {
    /// Ids of the runs that were started, each with the position of its item. A run that an earlier call started under the same id
    /// is among them.
    pub started: Vec<(usize, Uuid)>,
    /// Items whose key belongs to another run, each with that run.
    pub existing: Vec<(usize, Uuid)>,
    /// Items that were refused, each with the reason.
    pub refused: Vec<(usize, String)>,
}

impl BulkStarted {
    /// The ids of the started runs.
    pub fn ids(&self) -> Vec<Uuid> {
        self.started.iter().map(|(_, id)| *id).collect()
    }
}

/// Runs in one call of the database: enough that a call's own cost is nothing, and little enough for a bounded statement.
const RUNS_PER_CALL: usize = 2000;

/// Items for one call.
struct Part {
    version: Option<i32>,
    runs: Vec<NewRun>,
}

/// The items of a bulk start: in parts for calls, with the id of each by its place, and those that are refused here.
struct Items {
    parts: Vec<Part>,
    ids: Vec<(usize, Uuid)>,
    refused: Vec<(usize, String)>,
}

impl Items {
    fn of<S: IntoStart>(client: &Client, items: impl IntoIterator<Item = S>) -> Self {
        let mut ids = Vec::new();
        let mut refused = Vec::new();
        let mut by_version: BTreeMap<Option<i32>, Vec<NewRun>> = BTreeMap::new();
        for (place, item) in items.into_iter().enumerate() {
            match item.into_start().and_then(|start| start.check(client).map(|()| start)) {
                Ok(Start { run, version }) => {
                    ids.push((place, run.id));
                    by_version.entry(version).or_default().push(run);
                }
                Err(error) => refused.push((place, error.to_string())),
            }
        }
        let parts = by_version
            .into_iter()
            .flat_map(|(version, runs)| {
                let calls = into_calls(runs, RUNS_PER_CALL, |run| run.input.as_str().len());
                calls.into_iter().map(move |runs| Part { version, runs })
            })
            .collect();
        Self { parts, ids, refused }
    }

    fn outcome(self, not_started: Vec<NotStarted>) -> BulkStarted {
        let mut outcome = BulkStarted { refused: self.refused, ..BulkStarted::default() };
        let mut others: HashMap<Uuid, NotStarted> = HashMap::new();
        for item in not_started {
            if item.refusal.is_some() || item.existing.is_some_and(|run| run != item.id) {
                others.entry(item.id).or_insert(item);
            }
        }
        for (place, id) in self.ids {
            match others.get(&id) {
                Some(NotStarted { refusal: Some(reason), .. }) => outcome.refused.push((place, reason.clone())),
                Some(NotStarted { existing: Some(run), .. }) => outcome.existing.push((place, *run)),
                _ => outcome.started.push((place, id)),
            }
        }
        outcome.refused.sort();
        outcome
    }
}

/// Starts all runs in one transaction: when it fails, none was started. Repeated after a lost answer, it finds them there.
pub(crate) async fn send_many<S: IntoStart>(
    client: &Client,
    flow: &str,
    items: impl IntoIterator<Item = S>,
) -> Result<BulkStarted, Error> {
    let items = Items::of(client, items);
    let parts = &items.parts;
    let not_started = client
        .database()
        .retrying(|connection| async move {
            let mut connection = connection.into_executor();
            let transaction = connection.transaction().await?;
            let not_started = start_parts(client, &transaction, flow, parts).await?;
            transaction.commit().await?;
            Ok(not_started)
        })
        .await?;
    Ok(items.outcome(not_started))
}

/// As [`send_many`], in a transaction of the caller's.
pub(crate) async fn send_many_in<S: IntoStart>(
    client: &Client,
    transaction: &impl Executor,
    flow: &str,
    items: impl IntoIterator<Item = S>,
) -> Result<BulkStarted, Error> {
    let items = Items::of(client, items);
    let not_started = start_parts(client, transaction, flow, &items.parts).await?;
    Ok(items.outcome(not_started))
}

async fn start_parts(
    client: &Client,
    transaction: &impl Executor,
    flow: &str,
    parts: &[Part],
) -> Result<Vec<NotStarted>, Error> {
    let database = client.database();
    let calls = Calls::on(transaction, database.schema().clone());
    let mut not_started = Vec::new();
    for Part { version, runs } in parts {
        let batch = StartRuns { tenant: database.tenant(), flow, version: *version, runs };
        not_started.extend(calls.start_runs(batch).await?);
    }
    Ok(not_started)
}
