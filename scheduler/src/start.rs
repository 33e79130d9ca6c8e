//! Starting a run, with options.

use std::time::Duration;

use chrono::{DateTime, Utc};
pub use longhaul_schema::calls::Unique;
use longhaul_schema::{
    Payload,
    calls::{InTransaction, NewRun, NotStarted, StartRuns},
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
    pub(crate) run: NewRun,
    pub(crate) version: Option<i32>,
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

    /// Whether it is of a certain version of the flow.
    pub(crate) fn names_version(&self) -> bool {
        self.version.is_some()
    }

    pub(crate) async fn send(self, client: &Client, flow: &str) -> Result<RunHandle, Error> {
        self.check(client)?;
        let batch = self.batch(client, flow);
        let answer = client.database().retrying(|calls| async move { calls.start_runs(batch).await }).await?;
        Ok(client.run(started(self.run.id, answer)?))
    }

    pub(crate) async fn send_in(
        self,
        client: &Client,
        mut transaction: impl InTransaction,
        flow: &str,
    ) -> Result<Uuid, Error> {
        self.check(client)?;
        started(self.run.id, transaction.start_runs(client.database().schema(), self.batch(client, flow)).await?)
    }

    pub(crate) fn check(&self, client: &Client) -> Result<(), Error> {
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

impl Client {
    /// Starts a run of the latest version of a flow.
    pub async fn start(&self, flow: &str, input: &impl Serialize) -> Result<RunHandle, Error> {
        Start::new(input)?.send(self, flow).await
    }

    /// Starts a run with options: a key that keeps it single, name, priority, delay, deadline, version, id. Gives the run that holds
    /// the key, when one does.
    pub async fn start_with(&self, flow: &str, start: Start) -> Result<RunHandle, Error> {
        start.send(self, flow).await
    }

    /// Starts a run in the caller's own transaction: it exists if and only if that commits. All options count there as well; the
    /// key of a unique start delays other starts with the same key until the transaction ends, and nobody else.
    ///
    /// A transaction on the same database: `&transaction` of `tokio_postgres` or of a pool's connection, `&mut transaction` of sqlx
    /// (with the feature `sqlx`), or of another driver ([`JsonStatement`](longhaul_schema::calls::JsonStatement)). Nothing is tried
    /// again here.
    ///
    /// ```no_run
    /// # use longhaul_scheduler::{Client, Error, Start};
    /// # async fn order(client: Client, connection: &mut tokio_postgres::Client) -> Result<(), Error> {
    /// let transaction = connection.transaction().await?;
    /// transaction.execute("insert into orders values (7)", &[]).await?;
    /// client.start_in(&transaction, "order", Start::new(&7)?).await?;
    /// transaction.commit().await?;
    /// # Ok(()) }
    /// ```
    pub async fn start_in(&self, transaction: impl InTransaction, flow: &str, start: Start) -> Result<Uuid, Error> {
        start.send_in(self, transaction, flow).await
    }
}
