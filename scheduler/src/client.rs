//! The client: everything that starts, reads or steers runs.

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Config, Database, Flow, Payload,
    calls::{
        AttemptInfo, DeadLetter, DeadLetterFilter, Deployment, Difference, FlowInfo, LockInfo, NewSignal, OpenQuestion,
        Progress, QueueInfo, QueueLimits, RunFilter, RunInfo, RunPage, ScheduleInfo, StepInfo,
    },
    lock::Locked,
    migrate,
};
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

use crate::{Error, Schedule};

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
    /// Connects, and checks that the installation there serves this program ([`migrate::check`]).
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

    /// The same for another tenant, through the same pool.
    pub fn for_tenant(&self, tenant: &str) -> Result<Self, Error> {
        Ok(Self { database: self.database.for_tenant(tenant)?, max_payload: self.max_payload })
    }

    // Flows --------------------------------------------------------------------------------------------------------

    /// Deploys a flow version. The same definition again changes nothing; another one under the same version is refused.
    pub async fn deploy(&self, flow: &Flow) -> Result<Deployment, Error> {
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

    /// As [`list`](Self::list), with how far was looked: a page may end before the history does.
    pub async fn find(&self, filter: &RunFilter) -> Result<RunPage, Error> {
        let filter = RunFilter { tenant: self.database.tenant().into(), ..filter.clone() };
        let filter = &filter;
        self.database.retrying(|calls| async move { calls.find_runs(filter).await }).await
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

    // Signals, questions, dead letters -------------------------------------------------------------------------------

    /// Sends a signal to a topic and key: one waiter consumes it, now or later. Without an idempotency key of its own it is
    /// given one, so that it is one signal also when the answer was lost.
    pub async fn send_signal(&self, key: &str, signal: NewSignal) -> Result<i64, Error> {
        let tenant = self.database.tenant();
        let signal = &signal.once();
        self.database.retrying(|calls| async move { calls.send_signal(tenant, key, signal).await }).await
    }

    /// Reports that outside work has completed (`Ok`) or failed (`Err`): answers every wait for the topic and key, now and
    /// later. The first report counts, a second changes nothing.
    pub async fn complete_external(
        &self,
        topic: &str,
        key: &str,
        outcome: Result<&Payload, &Payload>,
    ) -> Result<i64, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.complete_external(tenant, topic, key, outcome).await }).await
    }

    /// Sends a signal to every live run, of one flow or with certain metadata if asked. Returns to how many.
    pub async fn broadcast(
        &self,
        signal: NewSignal,
        flow: Option<&str>,
        metadata: Option<&Payload>,
    ) -> Result<i64, Error> {
        let tenant = self.database.tenant();
        let signal = &signal.once();
        self.database
            .retrying(|calls| async move { calls.broadcast_signal(tenant, signal, flow, metadata).await })
            .await
    }

    /// Open questions, of one run if asked; longest first.
    pub async fn questions(&self, run: Option<Uuid>) -> Result<Vec<OpenQuestion>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.questions(tenant, run).await }).await
    }

    /// Steps that used up their attempts, oldest first; `filter.tenant` is ignored.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Error> {
        let filter = &self.mine(filter);
        self.database.retrying(|calls| async move { calls.dead_letters(filter).await }).await
    }

    /// Retries the failed runs of dead letters. Returns how many runs.
    pub async fn retry_dead_letters(&self, filter: &DeadLetterFilter, by: Option<&str>) -> Result<i64, Error> {
        self.database.calls().await?.retry_dead_letters(&self.mine(filter), by).await
    }

    /// Takes dead letters off the list; their runs stay as they are. Returns how many.
    pub async fn discard_dead_letters(&self, filter: &DeadLetterFilter, by: Option<&str>) -> Result<i64, Error> {
        self.database.calls().await?.discard_dead_letters(&self.mine(filter), by).await
    }

    // Queues -------------------------------------------------------------------------------------------------------

    /// The queues of this tenant, with their limits.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.list_queues(tenant).await }).await
    }

    /// Pauses a queue: nothing more is claimed from it; what runs is let finish. False when it was paused already.
    pub async fn pause_queue(&self, queue: &str, by: Option<&str>) -> Result<bool, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.pause_queue(tenant, queue, by).await }).await
    }

    /// Lets a queue go on, and closes its breaker. False when it was not paused.
    pub async fn resume_queue(&self, queue: &str) -> Result<bool, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.resume_queue(tenant, queue).await }).await
    }

    /// Sets all limits of a queue; those that are `None` are taken away.
    pub async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<(), Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.limit_queue(tenant, queue, limits).await }).await
    }

    // Schedules ----------------------------------------------------------------------------------------------------

    /// Makes or changes a schedule. The same expression again does not move its next tick.
    pub async fn schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        schedule.clone().put(&self.database).await
    }

    /// The schedules, by name.
    pub async fn schedules(&self) -> Result<Vec<ScheduleInfo>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.list_schedules(tenant).await }).await
    }

    /// Pauses a schedule. False when it was paused already.
    pub async fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.pause_schedule(tenant, name).await }).await
    }

    /// Lets a schedule go on; ticks that passed meanwhile count as missed. False when it was not paused.
    pub async fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.resume_schedule(tenant, name).await }).await
    }

    /// Fires ticks of the past that started no run: those of the schedule after `from` and up to `to`, at most so many. Returns how many
    /// ticks that were, and how many runs were started or queued.
    pub async fn backfill_schedule(
        &self,
        name: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        most: usize,
    ) -> Result<(usize, i64), Error> {
        let schedule = self.schedules().await?.into_iter().find(|schedule| schedule.name == name);
        let schedule = schedule.ok_or_else(|| Error::NotFound(format!("there is no schedule {name}")))?;
        let ticks = crate::schedules::between(&schedule, from, to, most)?;
        let mut started = 0;
        // Each part is a transaction of its own, which holds the schedule.
        for part in ticks.chunks(100) {
            started += self.database.calls().await?.backfill_schedule(self.database.tenant(), name, part).await?;
        }
        Ok((ticks.len(), started))
    }

    /// Deletes a schedule; its runs stay.
    pub async fn delete_schedule(&self, name: &str) -> Result<(), Error> {
        self.database.calls().await?.delete_schedule(self.database.tenant(), name).await
    }

    // Locks and progress -------------------------------------------------------------------------------------------

    /// Takes a named lock for so long, or says who has it; see [`longhaul_schema::lock`].
    pub async fn try_lock(&self, name: &str, holder: &str, hold: Duration) -> Result<Locked, Error> {
        self.database.try_lock(name, holder, hold).await
    }

    /// The locks, by name; only those that are held if asked.
    pub async fn locks(&self, held_only: bool) -> Result<Vec<LockInfo>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.list_locks(tenant, held_only).await }).await
    }

    /// Takes a lock from its holder, which is recorded. False when nobody held it.
    pub async fn force_release_lock(&self, name: &str, by: Option<&str>) -> Result<bool, Error> {
        let tenant = self.database.tenant();
        // The hold is named that is seen now: asked again after a lost answer, the call takes the lock from nobody else.
        let token = self.database.retrying(|calls| async move { calls.lock_token(tenant, name).await }).await?;
        if token.is_none() {
            return Ok(false);
        }
        self.database.retrying(|calls| async move { calls.force_release_lock(tenant, name, by, token).await }).await
    }

    /// What the handlers of a run reported, by step and key.
    pub async fn progress(&self, run: Uuid) -> Result<Vec<Progress>, Error> {
        self.get(run).await?;
        self.database.retrying(|calls| async move { calls.list_progress(run).await }).await
    }

    fn mine(&self, filter: &DeadLetterFilter) -> DeadLetterFilter {
        DeadLetterFilter { tenant: self.database.tenant().into(), ..filter.clone() }
    }

    /// How two versions of a flow differ.
    pub async fn flow_difference(&self, name: &str, from: i32, to: i32) -> Result<Vec<Difference>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.flow_difference(tenant, name, from, to).await }).await
    }

    /// How many live runs each version of a flow has; versions without any are left out.
    pub async fn live_versions(&self, name: &str) -> Result<Vec<(i32, i64)>, Error> {
        let tenant = self.database.tenant();
        self.database.retrying(|calls| async move { calls.live_versions(tenant, name).await }).await
    }

    /// One sentence that says why a step is not running.
    pub async fn why(&self, run: Uuid, step: &str) -> Result<String, Error> {
        self.get(run).await?;
        self.database.retrying(|calls| async move { calls.why(run, step).await }).await
    }
}
