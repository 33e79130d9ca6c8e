//! Questions that a function or a policy asks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use longhaul_schema::{Payload, calls::NewWait};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StepError;

/// A decision: what was chosen, by whom, when, and the data that came with it.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// One of the choices.
    pub choice: String,
    /// Data of whoever decided; null when there was none.
    #[serde(default)]
    pub data: Value,
    /// Who decided; `expiry` when nobody did in time.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A question that somebody must answer before a function goes on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Question {
    question: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pauses: Option<&'static str>,
    #[serde(skip)]
    expires: Option<Duration>,
}

impl Question {
    /// Asks this, with the choices `approve` and `reject`; the run is paused meanwhile.
    pub fn new(question: impl Into<String>) -> Self {
        Self { question: question.into(), ..Self::default() }
    }

    /// With these choices, at least one.
    pub fn choices(mut self, choices: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.choices = Some(choices.into_iter().map(Into::into).collect());
        self
    }

    /// Only these may answer, at least one.
    pub fn by(mut self, people: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.by = Some(people.into_iter().map(Into::into).collect());
        self
    }

    /// Shows this to whoever decides.
    pub fn value(mut self, value: impl Into<Value>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Takes this one of the choices when no answer came in time.
    pub fn expires(mut self, after: Duration, choice: impl Into<String>) -> Self {
        self.expires = Some(after);
        self.default = Some(choice.into());
        self
    }

    /// Lets the other steps of the run go on meanwhile.
    pub fn pauses_step(mut self) -> Self {
        self.pauses = Some("step");
        self
    }

    /// Fails when nobody could ever answer it.
    pub(crate) fn awaited(&self, path: String) -> Result<NewWait, StepError> {
        self.check()?;
        Ok(NewWait {
            kind: "decision",
            path,
            wait: self.expires,
            prompt: Some(Payload::new(self)?),
            ..NewWait::default()
        })
    }

    fn check(&self) -> Result<(), StepError> {
        let usual = || vec!["approve".to_owned(), "reject".to_owned()];
        let choices = self.choices.clone().unwrap_or_else(usual);
        let problem = if choices.is_empty() {
            "it has no choices".to_owned()
        } else if self.by.as_ref().is_some_and(Vec::is_empty) {
            "nobody may answer it".to_owned()
        } else if let Some(default) = self.default.as_ref().filter(|default| !choices.contains(default)) {
            format!("{default:?}, which is chosen when nobody answers in time, is not among its choices {choices:?}")
        } else {
            return Ok(());
        };
        Err(StepError::fail(format!("the question {:?} cannot be answered: {problem}", self.question)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_nobody_could_answer_is_not_asked() {
        for (question, problem) in [
            (Question::new("q").choices(Vec::<String>::new()), "no choices"),
            (Question::new("q").by(Vec::<String>::new()), "nobody may"),
            (Question::new("q").expires(Duration::from_secs(1), "nonsense"), "not among"),
            (Question::new("q").choices(["a"]).expires(Duration::from_secs(1), "reject"), "not among"),
        ] {
            let error = question.awaited("0".into()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        Question::new("q").expires(Duration::from_secs(1), "reject").by(["me"]).awaited("0".into()).unwrap();
    }
}
