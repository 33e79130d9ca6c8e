//! One attempt at a step: the handler, its timeout, its panics, its cancellation.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use longhaul_schema::{
    Payload,
    calls::{AttemptKey, AttemptOutcome, EndedAttempt},
};
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::{
    Handler, Next, StepContext, StepError, middleware::Around, outcome::Outcome, policy, replay::until_suspended,
};

/// Runs the handler and hands the outcome over, within a span that names the attempt: whatever the handler logs belongs to it.
///
/// Waits when the completer is full: the slot stays taken, and so nothing piles up. A cancelled attempt ends without an outcome:
/// whoever cancels it knows what is to become of the step.
pub(crate) async fn execute(
    context: StepContext,
    handler: Arc<dyn Handler>,
    input: Payload,
    around: Arc<Around>,
    outcomes: mpsc::Sender<Outcome>,
) {
    let step = &context.inner.step;
    let span = tracing::info_span!(
        target: "longhaul::attempt",
        "attempt",
        run = %context.run_id(),
        flow = %step.flow,
        step = %step.name,
        attempt = context.attempt(),
        tenant = context.tenant(),
        handler = %step.handler,
    );
    attempt(context, handler, input, around, outcomes).instrument(span).await;
}

async fn attempt(
    context: StepContext,
    handler: Arc<dyn Handler>,
    input: Payload,
    around: Arc<Around>,
    outcomes: mpsc::Sender<Outcome>,
) {
    let key = context.inner.key;
    let cancel = context.inner.cancel.clone();
    let timeout = context.inner.step.timeout;
    // The future is made and dropped inside, so that a panic in either is caught as well.
    let attempt = AssertUnwindSafe(async {
        if let Some(outcome) = policy::check(&around.policies, &context, &input).await {
            return outcome;
        }
        if !context.inner.lease.holds() {
            return Outcome::released(key, "the worker was away for as long as its lease lives");
        }
        let call = async { Next::new(&around.middleware, &*handler).run(context.clone(), input).await };
        match until_suspended(call, context.inner.waiting.clone(), key, &context.inner.step).await {
            Ok(Ok(output)) => done(&context, output),
            Ok(Err(error)) => Outcome::of_error(key, &error),
            Err(awaited) => Outcome::Suspended(key, awaited),
        }
    })
    .catch_unwind();
    let limit = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => return,
        result = attempt => match result {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Ended(panicked(key, panic)),
        },
        () = limit => {
            let error = StepError::retry(format!("the attempt took longer than {:?}", timeout.unwrap_or_default()));
            Outcome::Ended(EndedAttempt { key, outcome: AttemptOutcome::TimedOut, error: Some(error.to_payload()), retryable: true, delay: None })
        }
    };
    cancel.cancel();
    // The completer ends only with the session, which gives the leases up.
    let _ = outcomes.send(outcome).await;
}

/// The handler has come to its end.
fn done(context: &StepContext, output: Payload) -> Outcome {
    let key = context.inner.key;
    if let Err(error) = context.inner.history.check_end() {
        return Outcome::of_error(key, &error);
    }
    if context.inner.completed_in.load(std::sync::atomic::Ordering::Relaxed) {
        // If the transaction was committed, this is refused because the step is completed.
        return Outcome::of_error(
            key,
            &StepError::retry("the transaction that was to complete the step was not committed"),
        );
    }
    match output.check_size(context.inner.max_payload) {
        Ok(()) => Outcome::Completed(key, output),
        Err(error) => Outcome::failed(key, &StepError::fail(format!("the output cannot be stored: {error}"))),
    }
}

/// A panic is a failed attempt with the panic's message.
fn panicked(key: AttemptKey, panic: Box<dyn std::any::Any + Send>) -> EndedAttempt {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".into());
    // Dropping the panic's value may panic again; that would take the step's task with it, and no harm is done.
    std::mem::forget(panic);
    let error = StepError::retry(format!("the handler panicked: {message}"));
    EndedAttempt {
        key,
        outcome: AttemptOutcome::Panicked,
        error: Some(error.to_payload()),
        retryable: true,
        delay: None,
    }
}
