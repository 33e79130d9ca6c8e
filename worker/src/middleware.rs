//! Middleware: code around every attempt, such as metrics, error reports, or keys that decrypt what is stored.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use longhaul_schema::Payload;

use crate::{Handler, Policy, StepContext, StepError};

/// Code around each attempt of a worker: it is given the input, calls what is next, and gives the output or the error on, changed or not.
/// The one that was added first stands outermost. Policies are asked before.
///
/// ```
/// use std::time::Instant;
/// use longhaul_worker::{BoxFuture, Middleware, Next, Payload, StepContext, StepError};
///
/// /// Logs how long each attempt took.
/// struct Timed;
///
/// impl Middleware for Timed {
///     fn call<'a>(&'a self, ctx: StepContext, input: Payload, next: Next<'a>) -> BoxFuture<'a, Result<Payload, StepError>> {
///         Box::pin(async move {
///             let begun = Instant::now();
///             let outcome = next.run(ctx.clone(), input).await;
///             println!("{} of run {}: {:?}, ok: {}", ctx.step(), ctx.run_id(), begun.elapsed(), outcome.is_ok());
///             outcome
///         })
///     }
/// }
/// ```
///
/// An attempt whose handler waits for something durable, or is stopped, is dropped within [`Next::run`]: what must happen then as
/// well stands in a `Drop`. A middleware must not call anything durable itself: a handler's history has no place for it.
pub trait Middleware: Send + Sync + 'static {
    /// Does one attempt, by calling `next`.
    fn call<'a>(
        &'a self,
        context: StepContext,
        input: Payload,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, StepError>>;
}

impl fmt::Debug for dyn Middleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Middleware")
    }
}

/// The rest of an attempt: the middleware further in, and the handler.
pub struct Next<'a> {
    rest: &'a [Arc<dyn Middleware>],
    handler: &'a dyn Handler,
}

impl<'a> Next<'a> {
    pub(crate) fn new(rest: &'a [Arc<dyn Middleware>], handler: &'a dyn Handler) -> Self {
        Self { rest, handler }
    }

    /// Does it.
    pub fn run(self, context: StepContext, input: Payload) -> BoxFuture<'a, Result<Payload, StepError>> {
        match self.rest.split_first() {
            Some((first, rest)) => first.call(context, input, Next { rest, handler: self.handler }),
            None => self.handler.call(context, input),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} more)", self.rest.len())
    }
}

/// What stands around the attempts of a worker.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// Asked in this order whether a step may begin.
    pub(crate) policies: Vec<Arc<dyn Policy>>,
    /// Outermost first.
    pub(crate) middleware: Vec<Arc<dyn Middleware>>,
}
