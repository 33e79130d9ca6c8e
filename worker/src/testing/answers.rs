//! What a test has ready for a handler that waits.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use chrono::Utc;
use longhaul_schema::{
    Payload,
    calls::{AnswerKind, NewWait},
};
use serde_json::{Value, json};

/// An answer to a wait.
pub(super) type Answer = (AnswerKind, Payload);

/// Answers by what they answer, in their order.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By topic, and key if it has one.
    pub(super) signals: HashMap<(String, Option<String>), VecDeque<Payload>>,
    /// By flow.
    pub(super) children: HashMap<String, VecDeque<Answer>>,
    /// Of questions.
    pub(super) decisions: VecDeque<Value>,
    /// Of interrupts.
    pub(super) resumptions: VecDeque<Payload>,
    /// When each wait began, by its place.
    begun: HashMap<String, Duration>,
}

impl Answers {
    /// Answers everything of this that can be answered now. When nothing can, time passes until the first of it is due; `None` when
    /// that is never.
    pub(super) fn of(&mut self, waits: &[NewWait], now: &mut Duration) -> Option<Vec<(NewWait, Answer)>> {
        for wait in waits {
            self.begun.entry(wait.path.clone()).or_insert(*now);
        }
        let given: Vec<_> = waits.iter().filter_map(|wait| Some((wait.clone(), self.given(wait)?))).collect();
        if !given.is_empty() {
            return Some(given);
        }
        let due = |wait: &NewWait| Some(self.begun[&wait.path].saturating_add(wait.wait?));
        let first = waits.iter().filter_map(due).min()?;
        *now = first.max(*now);
        let passed = waits.iter().filter(|wait| due(wait).is_some_and(|due| due <= *now));
        Some(passed.map(|wait| (wait.clone(), at_its_time(wait))).collect())
    }

    fn given(&mut self, wait: &NewWait) -> Option<Answer> {
        match wait.kind {
            "signal" => {
                let topic = (wait.topic.clone()?, wait.key.clone());
                self.signals.get_mut(&topic)?.pop_front().map(|value| (AnswerKind::Ok, value))
            }
            "child" => self.children.get_mut(wait.flow.as_deref()?)?.pop_front(),
            "decision" => Some((AnswerKind::Ok, Payload::new(&self.decisions.pop_front()?).ok()?)),
            "interrupt" => self.resumptions.pop_front().map(|value| (AnswerKind::Ok, value)),
            _ => None,
        }
    }
}

/// What a wait gives when its time has come and nothing else.
fn at_its_time(wait: &NewWait) -> Answer {
    match wait.kind {
        "sleep" => (AnswerKind::Ok, Payload::null()),
        "decision" => {
            let prompt: Value = wait.prompt.as_ref().and_then(|prompt| prompt.read().ok()).unwrap_or_default();
            (AnswerKind::Ok, Payload::new(&decision(&prompt["default"], "expiry")).unwrap_or_else(|_| Payload::null()))
        }
        _ => (AnswerKind::Timeout, Payload::null()),
    }
}

/// A decision, as the database writes it.
pub(super) fn decision(choice: &Value, by: &str) -> Value {
    json!({ "choice": choice, "data": null, "by": by, "at": Utc::now() })
}
