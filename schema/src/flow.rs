//! Definitions of flows, as Rust code builds them and as files hold them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// The steps, 1 to 20,000.
    #[schemars(length(min = 1, max = 20000))]
    pub steps: Vec<Step>,
}

impl Flow {
    /// A flow without steps.
    pub fn new(name: impl Into<String>, version: i32) -> Self {
        Self { name: name.into(), version, description: None, steps: Vec::new() }
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// One unit of work of a flow, done by a handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name, unique in the flow: letters, digits, `.`, `_`, `-`, at most 100 characters.
    pub name: String,
    /// The code that does it, by the name under which workers register it: letters, digits, `_`, `-`, in at most 10 parts
    /// joined by dots.
    pub handler: String,
    /// Steps that must complete before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Queue in which it waits for a worker; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Lower goes first within the queue, from -1000 to 1000; 0 when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i16,
    /// Longest time of one attempt; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// What happens after a failed attempt; when absent, 5 attempts with exponential backoff from 1 s up to 1 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Constant settings for the handler, given to it beside the input.
    #[serde(default, rename = "with", skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Map<String, Value>>,
}

fn is_zero(number: &i16) -> bool {
    *number == 0
}

impl Step {
    /// A step with the default queue, priority and retries, that waits for nothing.
    pub fn new(name: impl Into<String>, handler: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            handler: handler.into(),
            after: Vec::new(),
            queue: None,
            priority: 0,
            timeout: None,
            retry: None,
            parameters: None,
        }
    }

    /// Starts only after that step has completed. May be called for several steps.
    pub fn after(mut self, step: impl Into<String>) -> Self {
        self.after.push(step.into());
        self
    }

    /// Waits for a worker in this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Lower goes first, from -1000 to 1000.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Longest time of one attempt. An attempt that takes longer counts as failed.
    pub fn timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }

    /// What happens after a failed attempt.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Adds a constant setting for the handler.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.get_or_insert_default().insert(name.into(), value.into());
        self
    }
}

/// How often a step is tried, and how long it waits in between: `backoff × factor^(failures − 1)`, at most `cap`, moved at
/// random by up to ± `jitter` of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first one included, from 1 to 30,000.
    #[schemars(range(min = 1, max = 30000))]
    pub attempts: u16,
    /// Wait after the first failure.
    pub backoff: Span,
    /// What each further wait is multiplied with, from 1 to 100.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub factor: f64,
    /// Longest wait.
    pub cap: Span,
    /// Random part of each wait, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff: std::time::Duration::from_secs(1).into(),
            factor: 2.0,
            cap: std::time::Duration::from_secs(3600).into(),
            jitter: 0.2,
        }
    }
}

impl Retry {
    /// So many attempts; waits of 1 s, 2 s, 4 s … up to an hour, ± 20 %.
    pub fn exponential(attempts: u16) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// So many attempts with the same wait between them.
    pub fn fixed(attempts: u16, wait: impl Into<Span>) -> Self {
        let wait = wait.into();
        Self { attempts, backoff: wait, factor: 1.0, cap: wait, jitter: 0.0 }
    }

    /// One attempt: the step is never tried again, not even when the worker dies.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }
}
