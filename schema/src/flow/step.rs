//! One step of a flow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Approval, Budget, Concurrency, Fair, OnFailure, Retry, WaitSignal};
use crate::Span;

/// One unit of work of a flow: done by a handler, or by the database itself (a child run, a durable sleep, a wait for a
/// signal).
///
/// Expressions are SQL/JSON paths over `input` (the run's), `run`, `steps` and `states` (outputs and states of steps that have
/// ended before) and, in a fan-out, `item` and `index`: `$.input.total`, `$.steps.check.ok == true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name, unique in the flow: letters, digits, `.`, `_`, `-`, at most 100 characters.
    pub name: String,
    /// The code that does it, by the name under which workers register it: letters, digits, `_`, `-`, in at most 10 parts
    /// joined by dots. A step has one of `handler`, `flow`, `sleep` and `wait_signal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The flow whose run, as a child of this one, is the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Version of that flow; the latest at that time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub flow_version: Option<i32>,
    /// Whether the child run is only started and not waited for; it then outlives this run. The output is its id.
    #[serde(default, skip_serializing_if = "is_false")]
    pub detached: bool,
    /// The step is a durable sleep of this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Span>,
    /// The step waits for this signal; the output is the signal's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_signal: Option<WaitSignal>,
    /// Steps that must have ended before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// The step is skipped unless this condition holds; what follows it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Template of its input, in which texts that begin with `$` are paths; the run's input when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Path to a list: the step is done for each of its items. The output is the list of their outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<String>,
    /// How many items are live at once, from 1 to 10,000; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub window: Option<u16>,
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
    /// What becomes of the run when the step has failed for good.
    #[serde(default, skip_serializing_if = "is_fail")]
    pub on_failure: OnFailure,
    /// The handler that undoes the step when the run fails later on. Its input: `input`, `output` and `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<String>,
    /// The approval that it needs before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What it spends before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// How many steps of the same key may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Fair turns among keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fair: Option<Fair>,
    /// Constant settings for the handler, given to it beside the input.
    #[serde(default, rename = "with", skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Map<String, Value>>,
}

fn is_zero(number: &i16) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_fail(value: &OnFailure) -> bool {
    *value == OnFailure::Fail
}

impl Step {
    /// A step that is done by a handler, with the default queue, priority and retries, that waits for nothing.
    pub fn new(name: impl Into<String>, handler: impl Into<String>) -> Self {
        Self { name: name.into(), handler: Some(handler.into()), ..Self::default() }
    }

    /// A step that is a child run.
    pub fn child(name: impl Into<String>, flow: impl Into<String>) -> Self {
        Self { name: name.into(), flow: Some(flow.into()), ..Self::default() }
    }

    /// A step that sleeps.
    pub fn sleep(name: impl Into<String>, length: impl Into<Span>) -> Self {
        Self { name: name.into(), sleep: Some(length.into()), ..Self::default() }
    }

    /// A step that waits for a signal.
    pub fn wait_signal(name: impl Into<String>, signal: WaitSignal) -> Self {
        Self { name: name.into(), wait_signal: Some(signal), ..Self::default() }
    }

    /// Starts only after that step has ended. May be called for several steps.
    pub fn after(mut self, step: impl Into<String>) -> Self {
        self.after.push(step.into());
        self
    }

    /// Skipped unless this condition holds.
    pub fn when(mut self, condition: impl Into<String>) -> Self {
        self.when = Some(condition.into());
        self
    }

    /// With this input, a template in which texts that begin with `$` are paths.
    pub fn input(mut self, template: impl Into<Value>) -> Self {
        self.input = Some(template.into());
        self
    }

    /// Done for each item of the list that this path finds.
    pub fn for_each(mut self, path: impl Into<String>) -> Self {
        self.for_each = Some(path.into());
        self
    }

    /// So many items are live at once.
    pub fn window(mut self, items: u16) -> Self {
        self.window = Some(items);
        self
    }

    /// The child run is not waited for.
    pub fn detached(mut self) -> Self {
        self.detached = true;
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

    /// The run goes on when this step has failed.
    pub fn or_continue(mut self) -> Self {
        self.on_failure = OnFailure::Continue;
        self
    }

    /// This handler undoes the step when the run fails later on.
    pub fn compensate(mut self, handler: impl Into<String>) -> Self {
        self.compensate = Some(handler.into());
        self
    }

    /// Begins only when this was approved.
    pub fn approval(mut self, approval: Approval) -> Self {
        self.approval = Some(approval);
        self
    }

    /// Begins only when this budget has enough left.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// So many steps of the same key run at once.
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// Takes fair turns with steps of other keys, as in `$.input.customer`.
    pub fn fair(mut self, key: impl Into<Value>, weight: f64) -> Self {
        self.fair = Some(Fair { key: key.into(), weight });
        self
    }

    /// Adds a constant setting for the handler.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.get_or_insert_default().insert(name.into(), value.into());
        self
    }
}
