//! Policies: asked before each dispatch whether a step may begin.
//!
//! A policy sees the step and its input, and says: proceed, defer, or ask. What it asks pauses the run until somebody decides;
//! `reject` fails the step, any other choice lets it begin, and [`StepContext::decision`] tells the handler what was chosen.
//! What a flow itself knows of (approvals, budgets) is written there instead: see [`longhaul_schema::Approval`] and
//! [`longhaul_schema::Budget`].

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use longhaul_schema::Payload;

use crate::{StepContext, StepError, durable::Question, outcome::Outcome};

/// What a policy says about a step that is about to begin.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It may begin.
    Proceed,
    /// Not now: it is asked again after this time. Consumes no attempt.
    Defer(Duration, String),
    /// Somebody must decide. Asked once: a step that was decided on may begin, in this attempt and in later ones.
    Ask(Box<Question>),
    /// It must not: the step fails.
    Refuse(String),
}

/// Asked by a worker before it calls a handler. An error is the attempt's, as if the handler had returned it.
pub trait Policy: Send + Sync + 'static {
    /// May this step begin?
    fn check<'a>(&'a self, context: &'a StepContext, input: &'a Payload) -> BoxFuture<'a, Result<Verdict, StepError>>;
}

impl fmt::Debug for dyn Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Policy")
    }
}

/// Asks all policies, in their order. `None`: the step may begin.
pub(crate) async fn check(policies: &[Arc<dyn Policy>], context: &StepContext, input: &Payload) -> Option<Outcome> {
    let key = context.inner.key;
    for policy in policies {
        let outcome = match policy.check(context, input).await {
            Ok(Verdict::Proceed) => continue,
            Ok(Verdict::Defer(wait, reason)) => Outcome::of_error(key, &StepError::defer_for(wait, reason)),
            Ok(Verdict::Refuse(reason)) => Outcome::of_error(key, &StepError::fail(reason).code("refused")),
            Ok(Verdict::Ask(question)) => match decided(context).await {
                Ok(true) => continue,
                Ok(false) => match question.awaited("policy".into()) {
                    Ok(awaited) => Outcome::Suspended(key, vec![awaited]),
                    Err(error) => Outcome::of_error(key, &error),
                },
                Err(error) => Outcome::of_error(key, &error),
            },
            Err(error) => Outcome::of_error(key, &error),
        };
        return Some(outcome);
    }
    None
}

/// Whether a policy's question about this step was answered. (A rejection has failed the step.)
async fn decided(context: &StepContext) -> Result<bool, StepError> {
    let recorded = context.inner.history.recorded(&context.inner.store, context.inner.key).await?;
    Ok(recorded.get("policy").is_some_and(|entry| entry.answer.is_some()))
}
