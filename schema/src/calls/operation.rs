//! Operations on runs: each is one transition, refused with the present state when that does not allow it.

use serde_json::value::RawValue;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, RunState};
use crate::{Payload, Result};

/// Who asks for an operation, and in which state or revision the run must be.
///
/// ```
/// use longhaul_schema::calls::{OperationOptions, RunState};
///
/// let options = OperationOptions::default().by("anna").expect_state(RunState::Paused);
/// # assert_eq!(options.by.as_deref(), Some("anna"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct OperationOptions {
    /// Who asks; the database user when `None`.
    pub by: Option<String>,
    /// Refused when the run is in another state.
    pub expected_state: Option<RunState>,
    /// Refused when the run has another revision.
    pub expected_revision: Option<i32>,
    /// The same operation under the same request is carried out once, so that it may be repeated after a lost answer.
    pub request: Option<Uuid>,
}

impl OperationOptions {
    /// Under a new request id, with no expectation.
    pub fn once() -> Self {
        Self { request: Some(Uuid::now_v7()), ..Self::default() }
    }

    /// By this person or program.
    pub fn by(mut self, who: impl Into<String>) -> Self {
        self.by = Some(who.into());
        self
    }

    /// Only if the run is in this state.
    pub fn expect_state(mut self, state: RunState) -> Self {
        self.expected_state = Some(state);
        self
    }

    /// Only if the run has this revision.
    pub fn expect_revision(mut self, revision: i32) -> Self {
        self.expected_revision = Some(revision);
        self
    }
}

/// An operation on a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Starts a pending run now.
    Start,
    /// Keeps ready steps back and lets running ones finish.
    Pause,
    /// Lets a paused run go on; the data goes to the step that interrupted it.
    Resume(Option<Payload>),
    /// Cancels what is left of it, and its child runs.
    Stop,
    /// Gives it a name, or takes it away.
    Rename(Option<String>),
    /// Sets keys of its metadata; null takes a key away.
    Annotate(Payload),
    /// Leaves an ended run out of lists.
    Dismiss,
    /// Puts a dismissed run back into lists.
    Undismiss,
    /// Goes on with a failed or stopped run from the steps that failed or were cancelled.
    Retry,
}

impl Operation {
    /// The states of a run in which it is possible; in others it is refused.
    ///
    /// ```
    /// use longhaul_schema::calls::{Operation, RunState};
    ///
    /// assert_eq!(Operation::Resume(None).states(), [RunState::Paused]);
    /// ```
    pub fn states(&self) -> &'static [RunState] {
        match self {
            Self::Start => &[RunState::Pending],
            Self::Pause => &[RunState::Pending, RunState::Running],
            Self::Resume(_) => &[RunState::Paused],
            Self::Stop => RunState::LIVE,
            Self::Dismiss | Self::Undismiss => RunState::FINAL,
            Self::Retry => &[RunState::Failed, RunState::Cancelled],
            Self::Rename(_) | Self::Annotate(_) => RunState::ALL,
        }
    }

    /// The database function of it.
    fn function(&self) -> &'static str {
        match self {
            Self::Start => "start_pending_run",
            Self::Pause => "pause_run",
            Self::Resume(_) => "resume_run",
            Self::Stop => "stop_run",
            Self::Rename(_) => "rename_run",
            Self::Annotate(_) => "annotate_run",
            Self::Dismiss => "dismiss_run",
            Self::Undismiss => "undismiss_run",
            Self::Retry => "retry_run",
        }
    }
}

impl<E: Executor> Calls<E> {
    /// Carries out an operation on a run of a tenant. Returns the run's revision.
    pub async fn operate(
        &self,
        tenant: &str,
        id: Uuid,
        operation: &Operation,
        options: &OperationOptions,
    ) -> Result<i32> {
        let common = "p_by => $3, p_expected_state => $4, p_expected_revision => $5, p_request => $6";
        let function = operation.function();
        let state = options.expected_state.map(RunState::as_str);
        let (by, revision, request) = (&options.by, &options.expected_revision, &options.request);
        let row = match operation {
            Operation::Resume(data) => {
                let data = data.as_ref().map(|d| Json(d.raw()));
                let sql = format!("select longhaul.{function}($1, $2, $7, {common})");
                self.row(&sql, &[&tenant, &id, by, &state, revision, request, &data]).await?
            }
            Operation::Rename(name) => {
                let sql = format!("select longhaul.{function}($1, $2, $7, {common})");
                self.row(&sql, &[&tenant, &id, by, &state, revision, request, name]).await?
            }
            Operation::Annotate(metadata) => {
                let sql = format!("select longhaul.{function}($1, $2, $7, {common})");
                self.row(&sql, &[&tenant, &id, by, &state, revision, request, &Json(metadata.raw())]).await?
            }
            _ => {
                let sql = format!("select longhaul.{function}($1, $2, {common})");
                self.row(&sql, &[&tenant, &id, by, &state, revision, request]).await?
            }
        };
        row.try_get(0)
    }

    /// Starts a new run that takes over what a run had done before a step, and does that step and all that follows it
    /// again. With its id given, options twice forks once.
    pub async fn fork_run(
        &self,
        tenant: &str,
        id: Uuid,
        step: &str,
        input: Option<&Payload>,
        new_id: Uuid,
        options: &OperationOptions,
    ) -> Result<Uuid> {
        let input: Option<Json<&RawValue>> = input.map(|i| Json(i.raw()));
        let state = options.expected_state.map(RunState::as_str);
        let row = self
            .row(
                "select longhaul.fork_run($1, $2, $3, $4, $5, $6, $7, $8)",
                &[&tenant, &id, &step, &input, &new_id, &options.by, &state, &options.expected_revision],
            )
            .await?;
        row.try_get(0)
    }
}
