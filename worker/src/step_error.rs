//! How a handler says that it did not complete.

use std::{fmt, time::Duration};

use longhaul_schema::Payload;
use serde::Serialize;

/// What shall happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another attempt, by the step's policy, after this time if one is given.
    Retry(Option<Duration>),
    /// No further attempt.
    Fail,
    /// Another call after this time, without counting this one.
    Snooze(Duration),
}

/// A handler's error. Any `std::error::Error` becomes a retryable one by `?`.
///
/// ```
/// use longhaul_worker::StepError;
///
/// fn parse(text: &str) -> Result<u32, StepError> {
///     let number: u32 = text.parse()?; // retried by the step's policy
///     if number == 0 {
///         return Err(StepError::fail("zero is not allowed")); // never retried
///     }
///     Ok(number)
/// }
/// # assert!(parse("0").is_err());
/// ```
#[derive(Debug)]
pub struct StepError {
    pub(crate) next: Next,
    message: String,
    causes: Vec<String>,
}

impl StepError {
    /// The attempt failed; another may succeed.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { next: Next::Retry(None), message: message.into(), causes: Vec::new() }
    }

    /// The attempt failed; another may succeed, but not before this time has passed (instead of the step's backoff).
    pub fn retry_after(wait: Duration, message: impl Into<String>) -> Self {
        Self { next: Next::Retry(Some(wait)), message: message.into(), causes: Vec::new() }
    }

    /// The step cannot succeed: no further attempt is made.
    pub fn fail(message: impl Into<String>) -> Self {
        Self { next: Next::Fail, message: message.into(), causes: Vec::new() }
    }

    /// Not now: call again after this time. Consumes no attempt.
    pub fn snooze(wait: Duration) -> Self {
        Self { next: Next::Snooze(wait), message: "snoozed".into(), causes: Vec::new() }
    }

    /// This error, but without further attempts.
    pub fn no_retry(mut self) -> Self {
        self.next = Next::Fail;
        self
    }

    /// What is kept with the attempt. Too long messages are cut; what PostgreSQL cannot store is replaced.
    pub(crate) fn to_payload(&self) -> Payload {
        #[derive(Serialize)]
        struct Kept<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            causes: &'a [String],
        }
        let message = storable(&self.message);
        let causes: Vec<String> = self.causes.iter().take(20).map(|cause| storable(cause)).collect();
        Payload::new(&Kept { message: &message, causes: &causes }).unwrap_or_else(|_| Payload::null())
    }
}

/// Longest message that is kept, in characters.
const MAX_MESSAGE: usize = 10_000;

fn storable(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for StepError {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(inner) = cause {
            causes.push(inner.to_string());
            cause = inner.source();
        }
        Self { next: Next::Retry(None), message: error.to_string(), causes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_storable() {
        let error = StepError::fail(format!("a\0b{}", "x".repeat(20_000)));
        let kept: serde_json::Value = error.to_payload().read().unwrap();
        let message = kept["message"].as_str().unwrap();
        assert!(message.starts_with("a\u{fffd}b"));
        assert_eq!(message.chars().count(), MAX_MESSAGE);
    }

    #[test]
    fn causes_are_kept() {
        let error = StepError::from(std::io::Error::other(std::fmt::Error));
        assert_eq!(error.next, Next::Retry(None));
        assert!(error.to_payload().as_str().contains("message"));
    }
}
