//! Starting many runs in one transaction.

use std::collections::{BTreeMap, HashMap};

use longhaul_schema::{
    calls::{InTransaction, NewRun, NotStarted, StartRuns},
    payload::into_calls,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{Client, Error, Start};

impl Client {
    /// Starts any number of runs of one flow in one transaction; 100,000 are one call. The items are inputs, or [`Start`]s with all
    /// their options. Each is accepted or refused for itself; an error means that none was started.
    pub async fn start_many<S: IntoStart>(
        &self,
        flow: &str,
        items: impl IntoIterator<Item = S>,
    ) -> Result<BulkStarted, Error> {
        let items = Items::of(self, items);
        let parts = &items.parts;
        // Repeated after a lost answer, it finds the runs there.
        let not_started = self
            .database()
            .retrying(|connection| async move {
                let mut connection = connection.into_executor();
                let transaction = connection.transaction().await?;
                let not_started = start_parts(self, &mut &transaction, flow, parts).await?;
                transaction.commit().await?;
                Ok(not_started)
            })
            .await?;
        Ok(items.outcome(not_started))
    }

    /// As [`Client::start_many`], in the caller's own transaction.
    pub async fn start_many_in<S: IntoStart>(
        &self,
        mut transaction: impl InTransaction,
        flow: &str,
        items: impl IntoIterator<Item = S>,
    ) -> Result<BulkStarted, Error> {
        let items = Items::of(self, items);
        let not_started = start_parts(self, &mut transaction, flow, &items.parts).await?;
        Ok(items.outcome(not_started))
    }
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

async fn start_parts(
    client: &Client,
    transaction: &mut impl InTransaction,
    flow: &str,
    parts: &[Part],
) -> Result<Vec<NotStarted>, Error> {
    let database = client.database();
    let mut not_started = Vec::new();
    for Part { version, runs } in parts {
        let batch = StartRuns { tenant: database.tenant(), flow, version: *version, runs };
        not_started.extend(transaction.start_runs(database.schema(), batch).await?);
    }
    Ok(not_started)
}
