//! Definitions of flows, as Rust code builds them and as files hold them.

mod policy;
mod step;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use policy::{Approval, Budget, Concurrency, Exceeded, Fair, OnFailure, OnTimeout, Pauses, Retry, WaitSignal};
pub use step::Step;

use crate::Span;

/// A named, versioned definition of steps and their order. Immutable once deployed: changes need a new version.
///
/// ```
/// use longhaul_schema::{Flow, Retry, Step};
///
/// let flow = Flow::new("order", 1)
///     .step(Step::new("charge", "payment.charge").retry(Retry::exponential(5)))
///     .step(Step::new("pack", "warehouse.pack").after("charge"))
///     .step(Step::new("receipt", "mail.receipt").after("charge"));
/// assert_eq!(flow.steps.len(), 3);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    description = "A named, versioned definition of steps and their order. Immutable once deployed: changes need a new version."
)]
pub struct Flow {
    /// Name: letters, digits, `.`, `_`, `-`, at most 100 characters.
    pub name: String,
    /// Version, from 1 on.
    #[schemars(range(min = 1, max = 2147483647))]
    pub version: i32,
    /// What the flow is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The steps, 1 to 20,000; or else phases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20000))]
    pub steps: Vec<Step>,
    /// Groups of steps, each of which begins when the one before has ended; or else steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// Template of the run's output; when absent, the output of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Whether handlers' checkpoints are saved; without, a handler begins anew in every attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<bool>,
    /// A run that takes longer fails; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

impl Flow {
    /// A flow without steps.
    pub fn new(name: impl Into<String>, version: i32) -> Self {
        Self {
            name: name.into(),
            version,
            description: None,
            steps: Vec::new(),
            phases: Vec::new(),
            output: None,
            checkpoints: None,
            timeout: None,
        }
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds a phase: its steps begin when all steps of the phase before have ended. A flow has either steps or phases.
    pub fn phase(mut self, name: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Self {
        self.phases.push(Phase { name: name.into(), steps: steps.into_iter().collect() });
        self
    }

    /// What the run gives: a template, in which texts that begin with `$` are paths.
    pub fn output(mut self, template: impl Into<Value>) -> Self {
        self.output = Some(template.into());
        self
    }

    /// Handlers' checkpoints are not saved: a handler begins anew in every attempt.
    pub fn without_checkpoints(mut self) -> Self {
        self.checkpoints = Some(false);
        self
    }

    /// A run that takes longer fails.
    pub fn timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }
}

/// A named group of steps, after the group before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name: letters, digits, `.`, `_`, `-`, at most 100 characters.
    pub name: String,
    /// Its steps. `after` may name steps of this phase and of earlier ones.
    #[schemars(length(min = 1, max = 20000))]
    pub steps: Vec<Step>,
}
