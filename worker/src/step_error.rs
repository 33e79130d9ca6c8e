//! How a handler says that it did not complete.

use std::{fmt, time::Duration};

use longhaul_schema::Payload;
use serde::Serialize;

/// What shall happen next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Another attempt, by the step's policy, after this time if one is given.
    Retry(Option<Duration>),
    /// No further attempt.
    Fail,
    /// Another call after this time, without counting this one.
    Snooze(Duration),
    /// Another call, after this time or a growing wait, without counting this one.
    Defer(Option<Duration>),
    /// The step goes on when its work is reported as completed.
    Dispatched { topic: String, key: String, deadline: Option<Duration> },
    /// The function begins anew with this input.
    ContinueAsNew(Payload),
}

/// Why a handler did not complete its step, and what shall happen next.
///
/// By `?`, any error becomes a retryable one: a `std::error::Error`, an `anyhow::Error`, a `Box<dyn Error + Send + Sync>`. Waits are of
/// whole milliseconds and at most 10,000 days: longer ones are that long.
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
    // Boxed, so that results stay small.
    parts: Box<Parts>,
}

#[derive(Debug)]
struct Parts {
    next: Next,
    message: String,
    causes: Vec<String>,
    code: Option<String>,
    detail: Option<String>,
}

impl StepError {
    fn new(next: Next, message: impl Into<String>) -> Self {
        let parts = Parts { next, message: message.into(), causes: Vec::new(), code: None, detail: None };
        Self { parts: Box::new(parts) }
    }

    /// The attempt failed; another may succeed.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Next::Retry(None), message)
    }

    /// The attempt failed; another may succeed, but not before this time has passed (instead of the step's backoff).
    pub fn retry_after(wait: Duration, message: impl Into<String>) -> Self {
        Self::new(Next::Retry(Some(wait)), message)
    }

    /// The step cannot succeed: no further attempt is made.
    pub fn fail(message: impl Into<String>) -> Self {
        Self::new(Next::Fail, message)
    }

    /// Not now: call again after this time. Consumes no attempt.
    pub fn snooze(wait: Duration) -> Self {
        Self::new(Next::Snooze(wait), "snoozed")
    }

    /// The provider is busy or down: call again after the step's backoff, which grows with each deferral. Consumes no
    /// attempt.
    pub fn defer(reason: impl Into<String>) -> Self {
        Self::new(Next::Defer(None), reason)
    }

    /// As [`StepError::defer`], after the time that the provider named.
    pub fn defer_for(wait: Duration, reason: impl Into<String>) -> Self {
        Self::new(Next::Defer(Some(wait)), reason)
    }

    /// The work was handed to an outside provider: the step waits, without a slot, until its completion is reported for this
    /// topic and key (`complete_external`). When that reports a failure, or does not come by the deadline, the attempt has
    /// failed and is retried by the step's policy.
    pub fn dispatched(topic: impl Into<String>, key: impl Into<String>, deadline: Option<Duration>) -> Self {
        Self::new(Next::Dispatched { topic: topic.into(), key: key.into(), deadline }, "dispatched")
    }

    /// Begins the durable function anew, with this input and an empty history. For functions that go on for ever.
    pub fn continue_as_new(input: &impl Serialize) -> Self {
        match Payload::new(input) {
            Ok(input) => Self::new(Next::ContinueAsNew(input), "continues as new"),
            Err(error) => Self::fail(format!("the new input cannot be stored: {error}")),
        }
    }

    /// This error, but without further attempts.
    pub fn no_retry(mut self) -> Self {
        self.parts.next = Next::Fail;
        self
    }

    /// With a code, for the flow's `never_on` and for programs that read errors.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.parts.code = Some(code.into());
        self
    }

    /// With a detail that stays with the attempt, for operators: the run's error shows message and code only.
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.parts.detail = Some(detail.to_string());
        self
    }

    /// What shall happen next.
    pub(crate) fn next(&self) -> &Next {
        &self.parts.next
    }

    /// The causes of the error that this was made of, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.parts.causes
    }

    /// Whether another attempt may be made.
    pub fn is_retryable(&self) -> bool {
        !matches!(self.parts.next, Next::Fail)
    }

    /// The code, if it has one.
    pub fn error_code(&self) -> Option<&str> {
        self.parts.code.as_deref()
    }

    /// What is kept with the attempt. Too long messages are cut; what PostgreSQL cannot store is replaced.
    pub(crate) fn to_payload(&self) -> Payload {
        #[derive(Serialize)]
        struct Kept<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            causes: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<String>,
        }
        let message = storable(&self.parts.message);
        let causes: Vec<String> = self.parts.causes.iter().take(20).map(|cause| storable(cause)).collect();
        let (code, detail) = (self.parts.code.as_deref().map(storable), self.parts.detail.as_deref().map(storable));
        Payload::new(&Kept { message: &message, causes: &causes, code, detail }).unwrap_or_else(|_| Payload::null())
    }
}

/// Longest message that is kept, in characters.
const MAX_MESSAGE: usize = 10_000;

fn storable(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

impl StepError {
    /// What a call of the database has come to: trouble that passes is tried again, all else would be met again.
    pub(crate) fn of_call(error: longhaul_schema::Error) -> Self {
        if error.is_transient() { Self::from(error) } else { Self::fail(error.to_string()) }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.message)
    }
}

/// Whatever can be a boxed error: every `std::error::Error`, a `Box<dyn Error + Send + Sync>`, an `anyhow::Error`, a text. Its
/// causes are kept.
impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for StepError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut this = Self::retry(error.to_string());
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        this.parts.causes = causes.map(ToString::to_string).collect();
        this
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
        #[derive(Debug)]
        struct Away(std::fmt::Error);
        impl fmt::Display for Away {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bank is away")
            }
        }
        impl std::error::Error for Away {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let charged = || -> Result<(), StepError> { Err(Away(std::fmt::Error))? };
        let error = charged().unwrap_err();
        assert!(matches!(error.next(), Next::Retry(None)));
        assert_eq!(
            (error.to_string().as_str(), error.causes()),
            ("the bank is away", &[std::fmt::Error.to_string()][..])
        );
        assert!(error.to_payload().as_str().contains("causes"));
    }

    #[test]
    fn boxed_errors_and_those_of_anyhow_become_step_errors() {
        use anyhow::Context;

        fn boxed() -> Result<(), StepError> {
            Err(Box::<dyn std::error::Error + Send + Sync>::from("no stock"))?
        }
        fn contextual() -> Result<(), StepError> {
            Err::<(), _>(std::fmt::Error).context("the shelf is away").context("order 7")?;
            Ok(())
        }
        assert_eq!(boxed().unwrap_err().to_string(), "no stock");
        let error = contextual().unwrap_err();
        assert_eq!(error.to_string(), "order 7");
        assert_eq!(error.causes(), ["the shelf is away".to_owned(), std::fmt::Error.to_string()]);
    }
}
