//! Operations on runs: each is one transition, refused with the present state when that does not allow it.

use serde_json::value::RawValue;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, Row, RunState, readable};
use crate::{Error, Payload, Result};

/// Who asks for an operation, and what is expected of the run.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Who asks; the database user when `None`.
    pub by: Option<String>,
    /// Refused when the run is in another state.
    pub expected_state: Option<RunState>,
    /// Refused when the run has another revision.
    pub expected_revision: Option<i32>,
    /// The same operation under the same request is carried out once, so that it may be repeated after a lost answer.
    pub request: Option<Uuid>,
}

impl Asking {
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
    pub async fn operate(&self, tenant: &str, id: Uuid, operation: &Operation, asking: &Asking) -> Result<i32> {
        let common = "p_by => $3, p_expected_state => $4, p_expected_revision => $5, p_request => $6";
        let function = operation.function();
        let state = asking.expected_state.map(RunState::as_str);
        let (by, revision, request) = (&asking.by, &asking.expected_revision, &asking.request);
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
    /// again. With its id given, asking twice forks once.
    pub async fn fork_run(
        &self,
        tenant: &str,
        id: Uuid,
        step: &str,
        input: Option<&Payload>,
        new_id: Uuid,
        asking: &Asking,
    ) -> Result<Uuid> {
        let input: Option<Json<&RawValue>> = input.map(|i| Json(i.raw()));
        let state = asking.expected_state.map(RunState::as_str);
        let row = self
            .row(
                "select longhaul.fork_run($1, $2, $3, $4, $5, $6, $7, $8)",
                &[&tenant, &id, &step, &input, &new_id, &asking.by, &state, &asking.expected_revision],
            )
            .await?;
        row.try_get(0)
    }

    /// Answers the question that a step asks. True when this call decided, false when the same choice was made before.
    pub async fn decide(&self, tenant: &str, id: Uuid, answer: &Answer, by: Option<&str>) -> Result<bool> {
        let data: Option<Json<&RawValue>> = answer.data.as_ref().map(|d| Json(d.raw()));
        let row = self
            .row(
                "select longhaul.decide($1, $2, $3, $4, $5, $6)",
                &[&tenant, &id, &answer.step, &answer.choice, &data, &by],
            )
            .await?;
        row.try_get(0)
    }

    /// Open questions of a tenant, of one run if asked; longest first.
    pub async fn questions(&self, tenant: &str, run: Option<Uuid>) -> Result<Vec<Question>> {
        let rows = self
            .rows(
                "select run_id, step, flow, kind::text, question, choices, may_answer, value, since, expires_at, at_expiry
                 from longhaul.questions where tenant = $1 and ($2::uuid is null or run_id = $2) order by since, run_id, step",
                &[&tenant, &run],
            )
            .await?;
        // A list of anything but texts is nobody's.
        let texts = |row: &Row, column: &str| {
            let list: Option<Payload> = row.try_get(column)?;
            Ok::<_, Error>(list.and_then(|list| list.read::<Vec<String>>().ok()))
        };
        readable(&rows, |row| {
            Ok(Question {
                run_id: row.try_get("run_id")?,
                step: row.try_get("step")?,
                flow: row.try_get("flow")?,
                interrupt: row.try_get::<&str>("kind")? == "interrupt",
                question: row.try_get("question")?,
                choices: texts(row, "choices")?.unwrap_or_default(),
                may_answer: texts(row, "may_answer")?,
                value: row.try_get("value")?,
                since: row.try_get("since")?,
                expires_at: row.try_get("expires_at")?,
                at_expiry: row.try_get("at_expiry")?,
            })
        })
    }
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The step that asks; items of a fan-out are numbered, as in `pay[3]`.
    pub step: String,
    /// One of the choices.
    pub choice: String,
    /// Data for the handler.
    pub data: Option<Payload>,
}

/// An open question.
#[derive(Clone, Debug)]
pub struct Question {
    /// The run that waits.
    pub run_id: Uuid,
    /// The step that asks.
    pub step: String,
    /// The run's flow.
    pub flow: String,
    /// Whether it is an interrupt, which is answered by resuming the run, and no decision.
    pub interrupt: bool,
    /// What is asked.
    pub question: Option<String>,
    /// What can be answered.
    pub choices: Vec<String>,
    /// Who may answer; everybody when `None`.
    pub may_answer: Option<Vec<String>>,
    /// What there is to see.
    pub value: Option<Payload>,
    /// Since when it is open.
    pub since: chrono::DateTime<chrono::Utc>,
    /// When it closes.
    pub expires_at: Option<chrono::DateTime<chrono::Utc>>,
    /// The choice that is taken then.
    pub at_expiry: Option<String>,
}
