//! Questions that steps ask, and their answers.

use serde_json::value::RawValue;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, Row, readable};
use crate::{Error, Payload, Result};

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
#[non_exhaustive]
pub struct OpenQuestion {
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

impl<E: Executor> Calls<E> {
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
    pub async fn questions(&self, tenant: &str, run: Option<Uuid>) -> Result<Vec<OpenQuestion>> {
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
            Ok(OpenQuestion {
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
