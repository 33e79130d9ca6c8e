//! What a handler did in a test.

use std::{fmt, time::Duration};

use longhaul_schema::calls::Checkpoint;
use serde_json::Value;

use crate::{StepError, step_error::Next};

/// How a handler ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End<Out> {
    /// It returned a value.
    Completed(Out),
    /// It returned an error; [`StepError::is_retryable`] says whether another attempt would be made.
    Failed(StepError),
    /// It wants to be called again after this time, without counting this attempt.
    Snoozed(Duration),
    /// Its provider is busy: it wants to be called again, after this time if it named one, without counting this attempt.
    Deferred(Option<Duration>),
    /// It handed its work to an outside provider, which is to report to this topic and key.
    Dispatched {
        /// Topic of the report.
        topic: String,
        /// Key of the report.
        key: String,
    },
    /// It begins anew with this input.
    ContinuedAsNew(Value),
    /// It waits for things that the test did not give: each with its kind and name, as in `signal "paid"`.
    Waiting(Vec<String>),
}

impl<Out> End<Out> {
    pub(super) fn of(result: Result<Out, StepError>) -> Self {
        let error = match result {
            Ok(output) => return Self::Completed(output),
            Err(error) => error,
        };
        match error.next() {
            Next::Snooze(wait) => Self::Snoozed(*wait),
            Next::Defer(wait) => Self::Deferred(*wait),
            Next::Dispatched { topic, key, .. } => Self::Dispatched { topic: topic.clone(), key: key.clone() },
            Next::ContinueAsNew(input) => Self::ContinuedAsNew(input.read().unwrap_or_default()),
            Next::Retry(_) | Next::Fail => Self::Failed(error),
        }
    }
}

/// What came of calling a handler in a test.
#[derive(Debug)]
#[non_exhaustive]
pub struct Called<Out> {
    /// How it ended.
    pub end: End<Out>,
    /// How far the test's time has moved on: sleeps, and waits that ran out.
    pub slept: Duration,
    /// How often the handler was called: once, and once more after each wait.
    pub calls: u32,
    /// Child runs that it started, each with flow and input, in order.
    pub children: Vec<(String, Value)>,
    /// Questions that it asked, in order.
    pub questions: Vec<String>,
    /// The last value of each key that it reported; progress has the empty key.
    pub reported: Vec<(String, Value)>,
    pub(super) history: Vec<Checkpoint>,
}

impl<Out> Called<Out> {
    /// The names of the checkpoints that were saved, in order.
    pub fn checkpoints(&self) -> Vec<&str> {
        self.history.iter().filter(|entry| entry.kind == "step").map(|entry| entry.name.as_str()).collect()
    }

    /// The value of a checkpoint.
    pub fn checkpoint(&self, name: &str) -> Option<Value> {
        let entry = self.history.iter().find(|entry| entry.kind == "step" && entry.name == name)?;
        entry.value.read().ok()
    }
}

impl<Out: fmt::Debug> Called<Out> {
    /// The value that the handler returned. Panics when it did not complete, and says what it did instead.
    #[track_caller]
    pub fn into_output(self) -> Out {
        match self.end {
            End::Completed(output) => output,
            other => panic!("the handler did not complete: {other:?}"),
        }
    }

    /// The error that the handler returned. Panics when it returned none.
    #[track_caller]
    pub fn into_error(self) -> StepError {
        match self.end {
            End::Failed(error) => error,
            other => panic!("the handler did not fail: {other:?}"),
        }
    }
}
