//! The record of what operators do: written down before it is done, and again with what came of it. When this process dies in between,
//! the record says that somebody began.

use longhaul_schema::{Payload, calls::NewAct};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{caller::Caller, problem::Problem};

/// What somebody is about to do.
pub(super) struct Doing {
    act: &'static str,
    target: Option<String>,
    detail: Option<Payload>,
    before: Option<Payload>,
}

impl Doing {
    pub(super) fn new(act: &'static str) -> Self {
        Self { act, target: None, detail: None, before: None }
    }

    /// To this.
    pub(super) fn to(self, target: impl ToString) -> Self {
        Self { target: Some(target.to_string()), ..self }
    }

    /// With this.
    pub(super) fn with(self, detail: &impl Serialize) -> Self {
        Self { detail: Payload::new(detail).ok(), ..self }
    }

    /// From this state.
    pub(super) fn from(self, before: &impl Serialize) -> Self {
        Self { before: Payload::new(before).ok(), ..self }
    }
}

/// Something that is being done.
pub(super) struct Act<'a> {
    caller: &'a Caller,
    id: Uuid,
}

impl Caller {
    /// Writes down what is about to be done.
    pub(super) async fn begin(&self, doing: Doing) -> Result<Act<'_>, Problem> {
        let id = self.request.unwrap_or_else(Uuid::now_v7);
        let database = self.client.database();
        let act = &NewAct {
            id,
            tenant: database.tenant(),
            by: &self.who,
            act: doing.act,
            target: doing.target.as_deref(),
            reason: self.reason.as_deref(),
            detail: doing.detail.as_ref(),
            before: doing.before.as_ref(),
        };
        database.retrying(|calls| async move { calls.begin_act(act).await }).await?;
        Ok(Act { caller: self, id })
    }
}

impl Act<'_> {
    /// Its id, by which it stands in the record; also the id under which it is carried out once.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// Writes down what came of it, with the state after it.
    pub(super) async fn end<T, E: Into<Problem>>(self, result: Result<T, E>, after: Value) -> Result<T, Problem> {
        let result = result.map_err(Into::into);
        let (outcome, error) = match &result {
            Ok(_) => ("done", None),
            Err(problem) if problem.status().is_server_error() => ("failed", Some(problem.detail())),
            Err(problem) => ("refused", Some(problem.detail())),
        };
        let after = if after.is_null() { None } else { Payload::new(&after).ok() };
        let (id, after) = (self.id, after.as_ref());
        let database = self.caller.client.database();
        let noted = database.retrying(|calls| async move { calls.end_act(id, outcome, after, error).await }).await;
        if let Err(error) = noted {
            tracing::error!(%error, act = %id, "what came of an act could not be written down");
        }
        result
    }
}
