//! What a step says about failure, questions, costs and signals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Span;

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
    /// Codes of errors after which no further attempt is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff: std::time::Duration::from_secs(1).into(),
            factor: 2.0,
            cap: std::time::Duration::from_secs(3600).into(),
            jitter: 0.2,
            never_on: Vec::new(),
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
        Self { attempts, backoff: wait, factor: 1.0, cap: wait, jitter: 0.0, never_on: Vec::new() }
    }

    /// No further attempt after an error of this code.
    pub fn never_on(mut self, code: impl Into<String>) -> Self {
        self.never_on.push(code.into());
        self
    }

    /// One attempt: the step is never tried again, not even when the worker dies.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }
}

/// What becomes of the run when a step has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run fails: what is left of it is cancelled, and completed steps with a compensation are undone.
    #[default]
    Fail,
    /// The run goes on as if the step had completed, without an output.
    Continue,
}

/// The approval that a step needs before it begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// What is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What can be answered: `approve` and `reject` when absent. `reject` fails the step, every other choice lets it begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<String>>,
    /// Who may answer; everybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// After this time the default choice is taken; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Span>,
    /// The choice at expiry; `reject` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What waits for the answer: the whole run when absent, or this step alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pauses: Option<Pauses>,
}

impl Approval {
    /// Asks this.
    pub fn ask(question: impl Into<String>) -> Self {
        Self { question: Some(question.into()), ..Self::default() }
    }

    /// With these choices. `reject` fails the step, every other choice lets it begin.
    pub fn choices(mut self, choices: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.choices = Some(choices.into_iter().map(Into::into).collect());
        self
    }

    /// Only these may answer.
    pub fn by(mut self, people: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.by = Some(people.into_iter().map(Into::into).collect());
        self
    }

    /// Takes this choice when no answer came in time.
    pub fn expires(mut self, after: impl Into<Span>, choice: impl Into<String>) -> Self {
        self.expires = Some(after.into());
        self.default = Some(choice.into());
        self
    }

    /// Lets the other steps of the run go on meanwhile.
    pub fn pauses_step(mut self) -> Self {
        self.pauses = Some(Pauses::Step);
        self
    }
}

/// What waits while a question is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pauses {
    /// The whole run.
    Run,
    /// The step that asks.
    Step,
}

/// What steps may spend together in a window of time. With an amount of 1 (the default) it is a rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Its name; steps that name it share it, in all flows of the tenant.
    pub name: String,
    /// How much may be spent in a window.
    pub limit: f64,
    /// Length of a window, at least 1s. Windows begin at whole multiples of it since 1970, UTC.
    pub per: Span,
    /// What the step costs: a number, or a path to one; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Value>,
    /// What happens when too little is left.
    #[serde(default)]
    pub exceeded: Exceeded,
}

/// What happens to a step that asks for more than is left of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// It waits for the next window.
    #[default]
    Defer,
    /// The run is paused, and somebody is asked.
    Ask,
    /// It fails.
    Fail,
}

/// How many steps with the same key may run at once, over all runs and workers. Those that wait for their turn are in nobody's
/// way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Steps with the same name and key share the limit, in all flows of the tenant; the step's handler when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The key, or a path to it; when absent, all steps of the name share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// How many at once.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000000))]
    pub limit: u32,
}

fn one() -> u32 {
    1
}

impl Concurrency {
    /// So many at once of the steps with this handler and key, as in `$.input.customer`.
    pub fn per_key(key: impl Into<Value>, limit: u32) -> Self {
        Self { name: None, key: Some(key.into()), limit }
    }

    /// So many at once of all steps that name it.
    pub fn named(name: impl Into<String>, limit: u32) -> Self {
        Self { name: Some(name.into()), key: None, limit }
    }
}

/// Fair turns among the keys of a line of ready steps: a flood of one interleaves with the trickle of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fair {
    /// The key, or a path to it, as in `$.input.customer`.
    pub key: Value,
    /// How many turns it gets for one of a key of weight 1, from 0.001 to 1000.
    #[serde(default = "one_turn")]
    pub weight: f64,
}

fn one_turn() -> f64 {
    1.0
}

/// A signal that a step waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitSignal {
    /// Topic, 1 to 200 characters.
    pub topic: String,
    /// Correlation key, or a path to it. When absent, the signal must be sent to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// How long to wait; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// What happens when no signal came in time.
    #[serde(default)]
    pub on_timeout: OnTimeout,
}

impl WaitSignal {
    /// A signal that is sent to the run.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), key: None, timeout: None, on_timeout: OnTimeout::Fail }
    }

    /// A signal that is sent to topic and key: a text, or a path such as `$.input.order`.
    pub fn key(mut self, key: impl Into<Value>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Waits no longer than this.
    pub fn timeout(mut self, timeout: impl Into<Span>, then: OnTimeout) -> Self {
        self.timeout = Some(timeout.into());
        self.on_timeout = then;
        self
    }
}

/// What happens when a signal does not come in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The step fails.
    #[default]
    Fail,
    /// The step completes with `null`.
    Continue,
}
