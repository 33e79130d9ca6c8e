//! Sending signals, reporting outside work, broadcasting; answering questions.

use longhaul_schema::{
    Payload, Span,
    calls::{Answer, NewSignal},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        act::{Act, Doing},
        caller::{Caller, Operator},
        extract::{Given, Json},
        problem::Problem,
    },
    acted::Acted,
};

/// A signal: to a run, or to a topic and key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    /// Topic, 1 to 200 characters.
    topic: String,
    /// To this run.
    run: Option<Uuid>,
    /// Or to this key: one waiter gets it, now or later.
    key: Option<String>,
    /// What it says; null by default.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Given,
    /// How long it is kept when nobody waits for it, as in 2d; 30 days by default.
    #[schema(value_type = Option<String>)]
    keep: Option<Span>,
    /// Whether a finished run keeps it instead of refusing it.
    #[serde(default)]
    keep_if_finished: bool,
}

/// A signal that was sent.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// Its number.
    signal: i64,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// A signal by this caller; asked for again under the same key, or after a lost answer, it is one signal.
fn signal(caller: &Caller, act: &Act<'_>, topic: &str, payload: Option<Payload>, keep: Option<Span>) -> NewSignal {
    NewSignal {
        idempotency_key: Some(act.id().to_string()),
        keep: keep.map(Span::as_duration),
        by: Some(caller.who.clone()),
        ..NewSignal::new(topic, payload.unwrap_or_else(Payload::null))
    }
}

/// Sends a signal to a run, or to a topic and key.
#[utoipa::path(post, path = "/signals", tag = "signals", request_body = Send, responses((status = 200, body = Sent), (status = "default", body = Problem)))]
pub(super) async fn send(caller: Operator, Json(sent): Json<Send>) -> Result<Json<Sent>, Problem> {
    let detail = json!({ "topic": sent.topic, "key": sent.key });
    let target = match (&sent.run, &sent.key) {
        (Some(run), None) => run.to_string(),
        (None, Some(key)) => key.clone(),
        _ => return Err(Problem::invalid("say run or key, one of the two")),
    };
    let act = caller.begin(Doing::new("send signal").to(target).with(&detail)).await?;
    let id = act.id();
    let signal = NewSignal {
        keep_if_finished: sent.keep_if_finished,
        ..signal(&caller, &act, &sent.topic, sent.payload.0, sent.keep)
    };
    let result = match (sent.run, &sent.key) {
        (Some(run), _) => caller.client.run(run).send(signal).await,
        (_, key) => caller.client.send_signal(key.as_deref().unwrap_or_default(), signal).await,
    };
    let number = result.as_ref().map_or(Value::Null, |number| json!({ "signal": number }));
    let signal = act.end(result, number).await?;
    Ok(Json(Sent { signal, act: id }))
}

/// A report that outside work has ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    /// Topic.
    topic: String,
    /// Key.
    key: String,
    /// What the work gave; null by default.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    output: Given,
    /// The work has failed, with this.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    error: Given,
}

/// Reports that outside work has completed, or failed: answers every wait for the topic and key. The first report counts.
#[utoipa::path(post, path = "/signals/complete", tag = "signals", request_body = Complete, responses((status = 200, body = Sent), (status = "default", body = Problem)))]
pub(super) async fn complete(caller: Operator, Json(report): Json<Complete>) -> Result<Json<Sent>, Problem> {
    let null = Payload::null();
    let outcome = match (&report.output.0, &report.error.0) {
        (Some(_), Some(_)) => return Err(Problem::invalid("say output or error, one of the two")),
        (_, Some(error)) => Err(error),
        (output, None) => Ok(output.as_ref().unwrap_or(&null)),
    };
    let detail = json!({ "topic": report.topic, "failed": outcome.is_err() });
    let act = caller.begin(Doing::new("complete outside work").to(&report.key).with(&detail)).await?;
    let id = act.id();
    let result = caller.client.complete_external(&report.topic, &report.key, outcome).await;
    let number = result.as_ref().map_or(Value::Null, |number| json!({ "signal": number }));
    let signal = act.end(result, number).await?;
    Ok(Json(Sent { signal, act: id }))
}

/// A signal to every live run that matches.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Broadcast {
    /// Topic.
    topic: String,
    /// What it says; null by default.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Given,
    /// To live runs of this flow only.
    flow: Option<String>,
    /// To live runs whose metadata contains this only.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    metadata: Given,
    /// How long it is kept, as in 2d; 30 days by default.
    #[schema(value_type = Option<String>)]
    keep: Option<Span>,
}

/// A signal that was sent to many.
#[derive(Serialize, ToSchema)]
pub(super) struct SentToMany {
    /// To how many runs.
    runs: i64,
    /// The id of this act in the record of acts.
    act: Uuid,
}

/// Sends a signal to every live run, of one flow or with certain metadata if asked.
#[utoipa::path(post, path = "/signals/broadcast", tag = "signals", request_body = Broadcast, responses((status = 200, body = SentToMany), (status = "default", body = Problem)))]
pub(super) async fn broadcast(caller: Operator, Json(sent): Json<Broadcast>) -> Result<Json<SentToMany>, Problem> {
    let detail = json!({ "topic": sent.topic, "flow": sent.flow });
    let act = caller.begin(Doing::new("broadcast signal").with(&detail)).await?;
    let id = act.id();
    let signal = signal(&caller, &act, &sent.topic, sent.payload.0, sent.keep);
    let result = caller.client.broadcast(signal, sent.flow.as_deref(), sent.metadata.0.as_ref()).await;
    let after = result.as_ref().map_or(Value::Null, |runs| json!({ "runs": runs }));
    let runs = act.end(result, after).await?;
    Ok(Json(SentToMany { runs, act: id }))
}

/// The answer to a question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    /// The run that asks.
    run: Uuid,
    /// The step that asks.
    step: String,
    /// One of its choices. An interrupt has none: it is answered by resuming the run with data.
    choice: String,
    /// Data for the step.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Given,
}

/// Answers the question that a step asks, as the caller. `changed` is false when the same choice was made before; another one after that is
/// refused.
#[utoipa::path(post, path = "/questions/answer", tag = "questions", request_body = Decide, responses((status = 200, body = Acted), (status = "default", body = Problem)))]
pub(super) async fn decide(caller: Operator, Json(decided): Json<Decide>) -> Result<Json<Acted>, Problem> {
    let detail = json!({ "step": decided.step, "choice": decided.choice });
    let act = caller.begin(Doing::new("answer question").to(decided.run).with(&detail)).await?;
    let id = act.id();
    let answer = Answer { step: decided.step, choice: decided.choice, data: decided.data.0 };
    let result = caller.client.run(decided.run).decide(answer, Some(&caller.who)).await;
    let changed = act.end(result, Value::Null).await?;
    Ok(Json(Acted { act: id, changed }))
}
