//! One round trip to the queues.

use std::{collections::HashMap, sync::Arc};

use longhaul_schema::{
    Database, Error,
    calls::{AttemptKey, ClaimedStep, FlowStep},
};

/// Most flow versions that are remembered; beyond, all are forgotten and read again when they are met.
const MAX_FLOWS: usize = 500;

/// Steps of flow versions that this worker has met. Versions never change, so nothing is ever stale.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    steps: HashMap<i32, Vec<Arc<FlowStep>>>,
}

impl Flows {
    /// Reads the flow versions of these steps that are not known yet.
    async fn learn(&mut self, database: &Database, claimed: &[ClaimedStep]) -> Result<(), Error> {
        if self.steps.len() > MAX_FLOWS {
            self.steps.clear();
        }
        for step in claimed {
            if !self.steps.contains_key(&step.flow_id) {
                let flow_id = step.flow_id;
                let steps = database.retrying(|calls| async move { calls.flow_steps(flow_id).await }).await?;
                self.steps.insert(flow_id, steps.into_iter().map(Arc::new).collect());
            }
        }
        Ok(())
    }

    /// The definition of a claimed step.
    pub(crate) fn step_of(&self, claimed: &ClaimedStep) -> Option<&Arc<FlowStep>> {
        self.steps.get(&claimed.flow_id)?.get(usize::try_from(claimed.definition).ok()?)
    }
}

/// What is to be done about notifications of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// Leave it as it is.
    Keep,
    /// Ask to be notified, then claim: work that was committed before the request is found by the claim.
    Start,
    /// No notifications: there is enough to do.
    Stop,
}

/// What is asked of a queue; no slots when only its notifications are to be stopped.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) queue: String,
    pub(crate) slots: usize,
    pub(crate) listening: Listening,
}

/// A round trip, prepared by the engine.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) worker: i64,
    /// Of this worker's claims, from 1.
    pub(crate) number: i64,
    pub(crate) wanted: Vec<Wanted>,
    /// After a claim whose answer was lost: what the worker knows it owns. Anything else that it owns was claimed then.
    pub(crate) recover: Option<Vec<AttemptKey>>,
    /// Transactions older than this had not ended at the claim before, and may make steps ready without telling this worker.
    pub(crate) unfinished: Option<i64>,
    pub(crate) flows: Flows,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct ClaimResult {
    pub(crate) outcome: Result<Vec<ClaimedStep>, Error>,
    /// Whether it asked for the steps of a lost answer instead of claiming.
    pub(crate) recovered: bool,
    /// As in [`Claim::unfinished`], for the claim after this one.
    pub(crate) unfinished: Option<i64>,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) flows: Flows,
}

impl Claim {
    /// Makes the round trip.
    pub(crate) async fn make(mut self, database: Database) -> ClaimResult {
        let recovered = self.recover.is_some();
        let outcome = self.attempt(&database).await;
        ClaimResult { outcome, recovered, unfinished: self.unfinished, wanted: self.wanted, flows: self.flows }
    }

    async fn attempt(&mut self, database: &Database) -> Result<Vec<ClaimedStep>, Error> {
        let calls = database.calls().await?;
        let claimed = match &self.recover {
            Some(known) => calls.forgotten_leases(self.worker, known.iter().copied(), Some(self.number)).await?,
            None => {
                let changing = |listening| {
                    self.wanted
                        .iter()
                        .filter(|w| w.listening == listening)
                        .map(|w| w.queue.as_str())
                        .collect::<Vec<_>>()
                };
                let (start, stop) = (changing(Listening::Start), changing(Listening::Stop));
                if !start.is_empty() {
                    calls.listen_for(self.worker, &start).await?;
                    self.unfinished = calls.unfinished_before(None).await?;
                } else if self.unfinished.is_some() {
                    self.unfinished = calls.unfinished_before(self.unfinished).await?;
                }
                if !stop.is_empty() {
                    calls.stop_listening(self.worker, &stop).await?;
                }
                let (names, limits): (Vec<&str>, Vec<i32>) = self
                    .wanted
                    .iter()
                    .filter(|w| w.slots > 0)
                    .map(|w| (w.queue.as_str(), i32::try_from(w.slots).unwrap_or(i32::MAX)))
                    .unzip();
                if names.is_empty() {
                    Vec::new()
                } else {
                    calls.claim_numbered(self.worker, &names, &limits, Some(self.number)).await?
                }
            }
        };
        drop(calls);
        self.flows.learn(database, &claimed).await?;
        Ok(claimed)
    }
}
