//! Jobs whose name, input and output belong together at compile time.

use std::{fmt, marker::PhantomData};

use crate::{Flow, Step};

/// A job: a name, and the types of its input and output. Declare it once, and the program that starts it and the worker that
/// does it agree, or do not compile.
///
/// ```
/// use longhaul_schema::Job;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order { id: u64, cents: u64 }
///
/// #[derive(Serialize, Deserialize)]
/// struct Receipt { number: String }
///
/// const CHARGE: Job<Order, Receipt> = Job::new("payment.charge");
/// # assert_eq!(CHARGE.flow().steps[0].handler.as_deref(), Some("payment.charge"));
/// ```
///
/// The name is the name of the handler, of the flow that a start begins, and of the one step in it. When no such flow is deployed,
/// the first start deploys [`Job::flow`]. For another retry policy, a timeout or more steps, deploy a flow of your own under that
/// name:
///
/// ```
/// # use longhaul_schema::{Flow, Job, Retry};
/// # const CHARGE: Job<u64, String> = Job::new("payment.charge");
/// let flow = Flow::new(CHARGE.name(), 2).step(CHARGE.step().retry(Retry::exponential(10)));
/// # assert_eq!(flow.steps[0].name, "payment.charge");
/// ```
pub struct Job<In, Out> {
    name: &'static str,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out> Job<In, Out> {
    /// A job of this name: letters, digits, `.`, `_`, `-`, at most ten parts with dots between them. Whether it is well-formed is
    /// checked when a worker or a flow takes it.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The step that does the job, as a flow takes it.
    pub fn step(&self) -> Step {
        Step::new(self.name, self.name)
    }

    /// The flow of this one step, with the usual retries, as version 1.
    pub fn flow(&self) -> Flow {
        Flow::new(self.name, 1).step(self.step())
    }
}

impl<In, Out> Clone for Job<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out> Copy for Job<In, Out> {}

impl<In, Out> fmt::Debug for Job<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Job").field(&self.name).finish()
    }
}
