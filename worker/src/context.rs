//! What a handler knows about the step that it does.

use std::sync::Arc;

use longhaul_schema::{Database, calls::AttemptKey, calls::FlowStep};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::StepError;

/// Given to a handler with its input. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StepContext {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) database: Database,
    pub(crate) key: AttemptKey,
    pub(crate) failures: i16,
    pub(crate) step: Arc<FlowStep>,
    pub(crate) worker: i64,
    pub(crate) cancel: CancellationToken,
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

    /// The output of another step of the same run. The step must have completed: name it in `after`.
    pub async fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        let run_id = self.run_id();
        let output = self
            .inner
            .database
            .retrying(|calls| async move { calls.step_output(run_id, step).await })
            .await
            .map_err(|e| if e.is_transient() { StepError::from(e) } else { StepError::fail(e.to_string()) })?;
        let output = output.ok_or_else(|| {
            StepError::fail(format!("step {step} has not completed; step {} must name it in `after`", self.step()))
        })?;
        output.read().map_err(|e| StepError::fail(format!("the output of step {step} does not fit: {e}")))
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
