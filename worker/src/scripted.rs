//! A run that exists only in a test: what its other steps gave, and what the handler has done so far.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use longhaul_schema::{
    Error, Payload,
    calls::{AnswerKind, Checkpoint, NewWait},
};
use uuid::Uuid;

/// What a test says of a run.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) tenant: String,
    /// Outputs of other steps, by name; `None` for those without one.
    pub(crate) outputs: HashMap<String, Option<Payload>>,
    /// Outputs of the items of fan-outs.
    pub(crate) items: HashMap<String, Vec<Option<Payload>>>,
    pub(crate) state: Mutex<State>,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The history, in the order in which it was written.
    pub(crate) history: Vec<Checkpoint>,
    /// Child runs, each with its flow and input.
    pub(crate) children: Vec<(String, Payload)>,
}

impl Scripted {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an entry of the history.
    pub(crate) fn record(&self, path: String, kind: &str, name: &str, answer: AnswerKind, value: Payload) {
        let entry = Checkpoint { path, kind: kind.into(), name: name.into(), answer: Some(answer), value };
        self.state().history.push(entry);
    }

    pub(crate) fn history(&self) -> Vec<Checkpoint> {
        self.state().history.clone()
    }

    pub(crate) fn step_output(&self, step: &str) -> Result<Option<Payload>, Error> {
        self.outputs.get(step).cloned().ok_or_else(|| {
            Error::NotFound(format!("the test does not say what step {step} gave: add .output({step:?}, …) to it"))
        })
    }

    pub(crate) fn item_outputs(&self, step: &str, from: i32, limit: i32) -> Result<Vec<Option<Payload>>, Error> {
        let items = self.items.get(step).ok_or_else(|| {
            Error::NotFound(format!(
                "the test does not say what the items of step {step} gave: add .item_outputs({step:?}, …) to it"
            ))
        })?;
        let (from, limit) = (usize::try_from(from).unwrap_or(0), usize::try_from(limit).unwrap_or(0));
        Ok(items.iter().skip(from).take(limit).cloned().collect())
    }

    pub(crate) fn start_detached(&self, child: &NewWait) -> Uuid {
        let id = Uuid::now_v7();
        let input = child.input.clone().unwrap_or_else(Payload::null);
        self.state().children.push((child.flow.clone().unwrap_or_default(), input));
        let value = Payload::new(&id).unwrap_or_else(|_| Payload::null());
        self.record(child.path.clone(), "detached", child.flow.as_deref().unwrap_or_default(), AnswerKind::Ok, value);
        id
    }
}
