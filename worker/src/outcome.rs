//! How an attempt ended, on its way to the completer.

use longhaul_schema::{
    Payload,
    calls::{AttemptKey, AttemptOutcome, EndedAttempt, NewWait},
};
use serde_json::json;

use crate::{StepError, step_error::Next, topic::check_topic};

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The step is done.
    Completed(AttemptKey, Payload),
    /// It is not.
    Ended(EndedAttempt),
    /// It waits, and holds no slot meanwhile.
    Suspended(AttemptKey, Vec<NewWait>),
}

impl Outcome {
    pub(crate) fn key(&self) -> AttemptKey {
        match self {
            Self::Completed(key, _) | Self::Suspended(key, _) => *key,
            Self::Ended(ended) => ended.key,
        }
    }

    /// The word for it.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Completed(..) => "completed",
            Self::Ended(ended) => ended.outcome.as_str(),
            Self::Suspended(..) => "suspended",
        }
    }

    /// Bytes on their way to the database, or about.
    pub(crate) fn size(&self) -> usize {
        let of = |payload: &Option<Payload>| payload.as_ref().map_or(0, |p| p.as_str().len());
        match self {
            Self::Completed(_, output) => output.as_str().len(),
            Self::Suspended(_, awaited) => {
                awaited.iter().map(|a| 100 + of(&a.input) + of(&a.prompt) + of(&a.metadata)).sum()
            }
            Self::Ended(ended) => of(&ended.error),
        }
    }

    /// Unfinished: goes back at once with no attempt consumed.
    pub(crate) fn released(key: AttemptKey, reason: &str) -> Self {
        let error = Payload::new(&json!({ "message": reason })).ok();
        Self::Ended(EndedAttempt {
            key,
            outcome: AttemptOutcome::Released,
            error,
            retryable: true,
            delay: Some(std::time::Duration::ZERO),
        })
    }

    /// Failed for good, because of something that another attempt would meet again.
    pub(crate) fn failed(key: AttemptKey, error: &StepError) -> Self {
        let error = Some(error.to_payload());
        Self::Ended(EndedAttempt { key, outcome: AttemptOutcome::Failed, error, retryable: false, delay: None })
    }

    /// What an error of a handler or a policy asks for.
    pub(crate) fn of_error(key: AttemptKey, error: &StepError) -> Self {
        let (outcome, retryable, delay) = match error.next() {
            Next::Retry(delay) => (AttemptOutcome::Failed, true, *delay),
            Next::Fail => (AttemptOutcome::Failed, false, None),
            Next::Snooze(wait) => (AttemptOutcome::Snoozed, true, Some(*wait)),
            Next::Defer(wait) => (AttemptOutcome::Deferred, true, *wait),
            Next::Dispatched { topic, key: correlation, deadline } => {
                if let Err(error) = check_topic(topic, Some(correlation)) {
                    return Self::failed(key, &error);
                }
                let awaited = NewWait {
                    kind: "external",
                    path: "external".into(),
                    topic: Some(topic.clone()),
                    key: Some(correlation.clone()),
                    wait: *deadline,
                    ..NewWait::default()
                };
                return Self::Suspended(key, vec![awaited]);
            }
            Next::ContinueAsNew(input) => {
                return Self::Suspended(
                    key,
                    vec![NewWait { kind: "new", input: Some(input.clone()), ..NewWait::default() }],
                );
            }
        };
        Self::Ended(EndedAttempt { key, outcome, error: Some(error.to_payload()), retryable, delay })
    }
}
