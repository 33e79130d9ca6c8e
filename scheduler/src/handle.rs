//! A started run, and how a client comes to it.

use std::time::{Duration, Instant};

use longhaul_schema::{
    Calls, Payload,
    calls::{Answer, NewSignal, Operation, OperationOptions, RunInfo, RunState, TimelineEntry},
    connect::Connection,
};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Client, Error};

/// Points to a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RunHandle {
    client: Client,
    id: Uuid,
}

/// First and longest wait between two looks at a run.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

impl Client {
    /// A run that was started earlier or elsewhere. Does not ask the database whether it exists.
    pub fn run(&self, id: Uuid) -> RunHandle {
        RunHandle::new(self.clone(), id)
    }

    /// What happened to a run, when, and by whom.
    pub async fn timeline(&self, run: Uuid) -> Result<Vec<TimelineEntry>, Error> {
        self.run(run).timeline().await
    }

    /// Runs a schedule now. `None` when the run before still lives and the schedule says to skip.
    pub async fn run_schedule(&self, name: &str) -> Result<Option<RunHandle>, Error> {
        let id = self.database().calls().await?.run_schedule(self.database().tenant(), name).await?;
        Ok(id.map(|id| self.run(id)))
    }
}

impl RunHandle {
    pub(crate) fn new(client: Client, id: Uuid) -> Self {
        Self { client, id }
    }

    /// The run's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The client that it was made by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its present state.
    pub async fn get(&self) -> Result<RunInfo, Error> {
        self.client.get(self.id).await
    }

    // Operations ---------------------------------------------------------------------------------------------------
    //
    // Each is one transition, refused with the run's state when that does not allow it. Repeated after a lost answer, it
    // is carried out once.

    /// Carries out an operation, with who asks and what state or revision is expected. Returns the run's revision.
    pub async fn operate(&self, operation: Operation, options: OperationOptions) -> Result<i32, Error> {
        let tenant = self.client.database().tenant();
        let options = OperationOptions { request: options.request.or_else(|| Some(Uuid::now_v7())), ..options };
        let (id, operation, options) = (self.id, &operation, &options);
        self.client
            .database()
            .retrying(|calls| async move { calls.operate(tenant, id, operation, options).await })
            .await
    }

    async fn simply(&self, operation: Operation) -> Result<(), Error> {
        self.operate(operation, OperationOptions::default()).await.map(|_| ())
    }

    /// Starts a pending run now.
    pub async fn start(&self) -> Result<(), Error> {
        self.simply(Operation::Start).await
    }

    /// Pauses the run: once this has returned, no step of it is claimed; steps that run are let finish.
    pub async fn pause(&self) -> Result<(), Error> {
        self.simply(Operation::Pause).await
    }

    /// Lets a paused run go on.
    pub async fn resume(&self) -> Result<(), Error> {
        self.simply(Operation::Resume(None)).await
    }

    /// Lets a run go on that a step has interrupted, with data for that step.
    pub async fn resume_with(&self, data: &impl Serialize) -> Result<(), Error> {
        self.simply(Operation::Resume(Some(self.client.payload(data)?))).await
    }

    /// Stops the run and its children: once this has returned, no step of it is claimed any more, and handlers of it that
    /// run are stopped.
    pub async fn stop(&self) -> Result<(), Error> {
        self.simply(Operation::Stop).await
    }

    /// Gives the run a name, or takes it away.
    pub async fn rename(&self, name: Option<&str>) -> Result<(), Error> {
        self.simply(Operation::Rename(name.map(Into::into))).await
    }

    /// Sets keys of the run's metadata; null takes a key away.
    pub async fn annotate(&self, metadata: &impl Serialize) -> Result<(), Error> {
        self.simply(Operation::Annotate(self.client.payload(metadata)?)).await
    }

    /// Leaves an ended run out of lists.
    pub async fn dismiss(&self) -> Result<(), Error> {
        self.simply(Operation::Dismiss).await
    }

    /// Puts a dismissed run back into lists.
    pub async fn undismiss(&self) -> Result<(), Error> {
        self.simply(Operation::Undismiss).await
    }

    /// Goes on with a failed or stopped run from the steps that failed or were cancelled; each has all its attempts again.
    pub async fn retry(&self) -> Result<(), Error> {
        self.simply(Operation::Retry).await
    }

    /// Starts a new run of the same flow version that takes over what was done before a step, and does that step and all
    /// that follows it again.
    pub async fn fork(&self, step: &str) -> Result<RunHandle, Error> {
        self.fork_with(step, None, OperationOptions::default()).await
    }

    /// As [`RunHandle::fork`], with another input for the steps that are done again, and with who asks and what is expected.
    pub async fn fork_with(
        &self,
        step: &str,
        input: Option<Payload>,
        options: OperationOptions,
    ) -> Result<RunHandle, Error> {
        let tenant = self.client.database().tenant();
        let (id, new, input, options) = (self.id, Uuid::now_v7(), input.as_ref(), &options);
        let fork =
            |calls: Calls<Connection>| async move { calls.fork_run(tenant, id, step, input, new, options).await };
        Ok(self.client.run(self.client.database().retrying(fork).await?))
    }

    // Signals and questions ----------------------------------------------------------------------------------------

    /// Sends a signal to the run; it is kept until the run waits for its topic. Refused when the run has ended.
    pub async fn signal(&self, topic: &str, payload: &impl Serialize) -> Result<i64, Error> {
        self.send(NewSignal::new(topic, self.client.payload(payload)?)).await
    }

    /// Sends a signal with options: idempotency key, how long it is kept, whether a finished run keeps it.
    pub async fn send(&self, signal: NewSignal) -> Result<i64, Error> {
        let tenant = self.client.database().tenant();
        let (id, signal) = (self.id, &signal.once());
        self.client.database().retrying(|calls| async move { calls.signal_run(tenant, id, signal).await }).await
    }

    /// Answers the question that a step of the run asks. True when this call decided, false when the same choice was made
    /// before.
    pub async fn decide(&self, answer: Answer, by: Option<&str>) -> Result<bool, Error> {
        let tenant = self.client.database().tenant();
        let (id, answer) = (self.id, &answer);
        self.client.database().retrying(|calls| async move { calls.decide(tenant, id, answer, by).await }).await
    }

    /// Approves the step that asks for approval, by this person.
    pub async fn approve(&self, step: &str, by: &str) -> Result<bool, Error> {
        self.decide(Answer { step: step.into(), choice: "approve".into(), data: None }, Some(by)).await
    }

    /// Rejects the step that asks for approval, by this person: it fails.
    pub async fn reject(&self, step: &str, by: &str) -> Result<bool, Error> {
        self.decide(Answer { step: step.into(), choice: "reject".into(), data: None }, Some(by)).await
    }

    // Waiting and reading ------------------------------------------------------------------------------------------

    /// What happened to the run, when, and by whom.
    pub async fn timeline(&self) -> Result<Vec<TimelineEntry>, Error> {
        self.get().await?;
        let id = self.id;
        self.client.database().retrying(|calls| async move { calls.timeline(id).await }).await
    }

    /// Waits until the run has ended, however it ended; `None` when it has not within `timeout`.
    pub async fn wait(&self, timeout: Duration) -> Result<Option<RunInfo>, Error> {
        // A time that clocks cannot hold never comes.
        let deadline = Instant::now().checked_add(timeout);
        let mut wait = FIRST_LOOK;
        loop {
            let run = self.get().await?;
            if run.state.is_final() {
                return Ok(Some(run));
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(wait.min(left)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits, as long as it takes, until the run has completed, and reads its output: that of its last step or, when several
    /// steps have no successor, an object of their outputs by name. Fails when the run failed or was cancelled.
    pub async fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let run = loop {
            if let Some(run) = self.wait(Duration::from_secs(3600)).await? {
                break run;
            }
        };
        if run.state != RunState::Completed {
            let error = run.error.as_ref().map(|e| format!(": {}", e.as_str())).unwrap_or_default();
            return Err(Error::Refused(format!("run {} is {} and has no output{error}", self.id, run.state)));
        }
        let id = self.id;
        let output = self.client.database().retrying(|calls| async move { calls.run_output(id).await }).await?;
        output.unwrap_or_else(Payload::null).read()
    }
}
