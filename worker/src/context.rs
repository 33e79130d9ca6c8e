//! What a handler knows about the step that it does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use longhaul_schema::{
    Payload,
    calls::{AttemptKey, FlowStep, InTransaction, ProgressValue, RefusedAttempt},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    StepError,
    lease_clock::LeaseClock,
    replay::{History, Waiting, saver::Save},
    sinks::ProgressWriter,
    state::States,
    store::Store,
};

/// Given to a handler with its input. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StepContext {
    pub(crate) inner: Arc<Inner>,
    pub(crate) branch: Arc<BranchPath>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) key: AttemptKey,
    pub(crate) failures: i16,
    pub(crate) step: Arc<FlowStep>,
    pub(crate) worker: i64,
    pub(crate) cancel: CancellationToken,
    pub(crate) lease: LeaseClock,
    pub(crate) max_payload: usize,
    pub(crate) max_history: usize,
    pub(crate) history: History,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) saver: mpsc::Sender<Save>,
    pub(crate) progress: ProgressWriter,
    pub(crate) states: Arc<States>,
    /// The step was completed in a transaction of the handler's.
    pub(crate) completed_in: AtomicBool,
}

/// Numbers the operations of a branch of a durable function; the function itself is the branch without a prefix.
#[derive(Debug)]
pub(crate) struct BranchPath {
    pub(crate) prefix: String,
    next: AtomicU32,
}

impl BranchPath {
    pub(crate) fn new(prefix: String) -> Arc<Self> {
        Arc::new(Self { prefix, next: AtomicU32::new(0) })
    }

    /// The number of the next operation.
    pub(crate) fn peek(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes the place of the next operation.
    pub(crate) fn take(&self) -> String {
        format!("{}{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl StepContext {
    /// The run.
    pub fn run_id(&self) -> Uuid {
        self.inner.key.step.run_id
    }

    /// Name of the flow.
    pub fn flow(&self) -> &str {
        &self.inner.step.flow
    }

    /// Version of the flow.
    pub fn flow_version(&self) -> i32 {
        self.inner.step.version
    }

    /// Name of the step.
    pub fn step(&self) -> &str {
        &self.inner.step.name
    }

    /// The tenant of the run.
    pub fn tenant(&self) -> &str {
        self.inner.store.tenant()
    }

    /// What the worker was given for its handlers to share: pools, clients, settings.
    ///
    /// ```
    /// use longhaul_worker::{StepContext, StepError};
    ///
    /// struct Bank { url: String }
    ///
    /// async fn charge(ctx: StepContext, cents: u64) -> Result<String, StepError> {
    ///     let bank = ctx.state::<Bank>()?;
    ///     Ok(format!("{cents} cents from {}", bank.url))
    /// }
    ///
    /// # fn run(config: longhaul_worker::Config) -> Result<(), longhaul_worker::Error> {
    /// let bank = Bank { url: "https://bank.example".into() };
    /// let worker = longhaul_worker::Worker::builder(&config).state(bank).handler("payment.charge", charge).build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// Fails, and is tried again, when the worker has no state of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, StepError> {
        self.inner.states.get()
    }

    /// Id of the worker's registration.
    pub fn worker(&self) -> i64 {
        self.inner.worker
    }

    /// Which try this is, from 1. Attempts that were handed back or snoozed are not counted.
    pub fn attempt(&self) -> u32 {
        u32::from(self.inner.failures.unsigned_abs()) + 1
    }

    /// How many tries the step has.
    pub fn max_attempts(&self) -> u32 {
        u32::from(self.inner.step.max_attempts.unsigned_abs())
    }

    /// Longest time of one attempt, as the flow has it; unlimited when it says nothing.
    pub fn timeout(&self) -> Option<std::time::Duration> {
        self.inner.step.timeout
    }

    /// Run, number of the step, and number of the attempt: what the functions of the database know an attempt by.
    pub fn attempt_key(&self) -> AttemptKey {
        self.inner.key
    }

    /// A number that grows with every claim of this step: a store that has seen a higher one must refuse this one.
    /// (Kleppmann, "How to do distributed locking", 2016.)
    pub fn fencing_token(&self) -> i32 {
        self.inner.key.attempt
    }

    /// The same for all attempts of this step, and for no other step: for providers that accept idempotency keys.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.inner.key.step.run_id, self.inner.key.step.seq)
    }

    /// The step's constant settings (`with` in its definition), `null` when there are none.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        let text = self.inner.step.parameters.as_ref().map_or("null", |p| p.as_str());
        serde_json::from_str(text)
            .map_err(|e| StepError::fail(format!("the settings of step {} do not fit: {e}", self.step())))
    }

    /// The output of another step of the same run. The step must have completed: name it in `after`. Of one that may have been
    /// skipped, or failed with `on_failure: continue`, ask for [`StepContext::output_if_any`].
    pub async fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        self.output_if_any(step)
            .await?
            .ok_or_else(|| StepError::fail(format!("step {step} has no output: it was skipped, or has failed")))
    }

    /// The output of another step of the same run; `None` when it was skipped or has failed. The step must have ended: name it
    /// in `after`.
    pub async fn output_if_any<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, StepError> {
        let store = &self.inner.store;
        if let Some(output) = store.step_output(self.run_id(), step).await.map_err(StepError::of_call)? {
            let read =
                output.read().map_err(|e| StepError::fail(format!("the output of step {step} does not fit: {e}")));
            return read.map(Some);
        }
        if store.step_has_ended(self.run_id(), step).await.map_err(StepError::of_call)? {
            return Ok(None);
        }
        Err(StepError::fail(format!("step {step} has not ended; step {} must name it in `after`", self.step())))
    }

    /// Completes the step in a transaction of the handler's own, on the same database (of `tokio_postgres`, or of another driver: see
    /// [`InTransaction`]): what the handler wrote there and the
    /// completion exist both or not at all. The handler commits, and then returns; its return value is ignored.
    ///
    /// Fails when the lease was lost; the transaction must be rolled back then, which dropping it does. If it is not
    /// committed in the end, the attempt has failed and is retried.
    pub async fn complete_in(
        &self,
        mut transaction: impl InTransaction,
        output: &impl Serialize,
    ) -> Result<(), StepError> {
        let output = Payload::new(output)
            .and_then(|output| output.check_size(self.inner.max_payload).map(|()| output))
            .map_err(|e| StepError::fail(format!("the output cannot be stored: {e}")))?;
        self.inner.completed_in.store(true, Ordering::Relaxed);
        let inner = &self.inner;
        match transaction.complete_step(&inner.store.schema(), inner.worker, inner.key, output).await? {
            None => Ok(()),
            Some(RefusedAttempt { reason, .. }) if reason.starts_with("invalid: ") => {
                Err(StepError::fail(format!("the output cannot be stored: {reason}")))
            }
            Some(refused) => Err(StepError::retry(format!("the step is no longer this worker's: {}", refused.reason))),
        }
    }

    /// Says how far the step is, as often as one likes: the last value is stored, by the debounced writer, within half a second.
    pub async fn progress(&self, done: u64, of: u64, message: &str) -> Result<(), StepError> {
        self.report("", &serde_json::json!({ "done": done, "of": of, "message": message })).await
    }

    /// Sets a value of the step's own, such as an item of a list of tasks, under a key. The last one is stored, as with
    /// [`StepContext::progress`]. It is for people who look on, and no checkpoint.
    pub async fn report(&self, key: &str, value: &impl Serialize) -> Result<(), StepError> {
        let value = Payload::new(value)
            .and_then(|value| value.check_size(self.inner.max_payload).map(|()| value))
            .map_err(|e| StepError::fail(format!("the progress cannot be stored: {e}")))?;
        if key.contains('\0') {
            return Err(StepError::fail("the key of a progress must not hold \\u0000"));
        }
        let AttemptKey { step, attempt } = self.inner.key;
        self.inner.progress.put((step, key.to_owned()), ProgressValue { attempt, value }).await;
        Ok(())
    }

    /// A page of what the items of a fan-out gave, by the name of its step, beginning with item `from`: the outputs, `None`
    /// for items that failed.
    pub async fn item_outputs<T: DeserializeOwned>(
        &self,
        step: &str,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Option<T>>, StepError> {
        let (from, limit) = (i32::try_from(from).unwrap_or(i32::MAX), i32::try_from(limit).unwrap_or(i32::MAX));
        let outputs = self.inner.store.item_outputs(self.run_id(), step, from, limit).await?;
        let outputs = outputs.iter().map(|output| output.as_ref().map(Payload::read).transpose());
        outputs
            .collect::<Result<_, _>>()
            .map_err(|e| StepError::fail(format!("the outputs of step {step} do not fit: {e}")))
    }

    /// Whether the attempt is to stop: its lease was lost, its time is over, or the worker shuts down.
    ///
    /// A handler that awaits is simply dropped then; this is for code that does not, such as blocking work.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancel.is_cancelled()
    }

    /// Completes when the attempt is to stop.
    pub async fn cancelled(&self) {
        self.inner.cancel.cancelled().await;
    }
}
