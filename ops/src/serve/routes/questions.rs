//! Questions that wait for people.

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{Error, Payload, calls};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    caller::Reader,
    extract::{Json, Query},
    problem::Problem,
};

/// A question.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Question {
    /// The run that waits.
    run: Uuid,
    /// The step that asks.
    step: String,
    /// The run's flow.
    flow: String,
    /// Whether it is answered by resuming the run with data, and not by a choice.
    interrupt: bool,
    /// What is asked.
    question: Option<String>,
    /// What can be answered.
    choices: Vec<String>,
    /// Who may answer; null: everybody.
    may_answer: Option<Vec<String>>,
    /// What there is to see.
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Payload>,
    /// Since when it is open.
    since: DateTime<Utc>,
    /// When it closes.
    expires_at: Option<DateTime<Utc>>,
    /// The choice that is taken then.
    at_expiry: Option<String>,
}

/// Which questions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this run.
    run: Option<Uuid>,
}

/// The open questions of a tenant.
pub(in super::super) async fn questions(client: &Client, run: Option<Uuid>) -> Result<Vec<Question>, Error> {
    let question = |q: calls::OpenQuestion| Question {
        run: q.run_id,
        step: q.step,
        flow: q.flow,
        interrupt: q.interrupt,
        question: q.question,
        choices: q.choices,
        may_answer: q.may_answer,
        value: q.value,
        since: q.since,
        expires_at: q.expires_at,
        at_expiry: q.at_expiry,
    };
    Ok(client.questions(run).await?.into_iter().map(question).collect())
}

/// Open questions, the longest first.
#[utoipa::path(get, path = "/questions", tag = "questions", params(Which), responses((status = 200, body = [Question]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<Vec<Question>>, Problem> {
    Ok(Json(questions(&reader.client, which.run).await?))
}
