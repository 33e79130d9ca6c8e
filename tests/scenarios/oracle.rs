//! The oracle: what a run must come to, from its flow, its input and what its handlers do. It knows nothing of rooms, locks or
//! times: it says what the documentation says.

use serde_json::Value;

use crate::{
    expressions::{ITEM_TIME, TIME, Truth, time, truth},
    scenario::{Act, Scenario},
};

/// The ends that a run, or a step, may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub completed: bool,
    pub failed: bool,
}

pub const COMPLETES: Ends = Ends { completed: true, failed: false };
pub const FAILS: Ends = Ends { completed: false, failed: true };
pub const EITHER: Ends = Ends { completed: true, failed: true };

impl Ends {
    /// After another one that must be good too.
    fn and(self, other: Self) -> Self {
        Self { completed: self.completed && other.completed, failed: self.failed || other.failed }
    }
}

/// What a run of a flow with an input must come to, when everything that it waits for comes.
pub fn run_ends(scenario: &Scenario, flow: &str, input: &Value) -> Ends {
    let Some(flow) = scenario.flow(flow) else { return EITHER };
    let steps = flow["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let steps = steps.iter().map(|step| step_in_run(scenario, step, input)).fold(COMPLETES, Ends::and);
    // An output that cannot be made: the run's own affair, however it is settled.
    if steps.completed && is_unusable(&flow["output"], input) { EITHER } else { steps }
}

/// As its run sees it: a failure that the flow goes on without is none.
fn step_in_run(scenario: &Scenario, step: &Value, input: &Value) -> Ends {
    let ends = step_ends(scenario, step, input);
    if step["on_failure"] == "continue" { COMPLETES } else { ends }
}

fn step_ends(scenario: &Scenario, step: &Value, input: &Value) -> Ends {
    if let Some(condition) = step["when"].as_str() {
        match truth(condition, input) {
            Truth::Holds => {}
            Truth::HoldsNot => return COMPLETES,
            Truth::Neither | Truth::Unusable => return FAILS,
            Truth::Unsure => return EITHER,
        }
    }
    let asked = asked_before(step, input);
    if let Some(path) = step["for_each"].as_str() {
        let Value::Array(items) = &input[path.trim_start_matches("$.input.")] else { return FAILS };
        // Whatever items ask for, they ask one by one.
        return items.iter().map(|item| asked.and(item_ends(scenario, step, item))).fold(COMPLETES, Ends::and);
    }
    if is_unusable(&step["input"], input) {
        return FAILS;
    }
    asked.and(work_ends(scenario, step, input, step.get("input").is_some()))
}

fn item_ends(scenario: &Scenario, step: &Value, item: &Value) -> Ends {
    if mentions(&step["input"], ITEM_TIME) {
        match time(item.get("at")) {
            Truth::Unusable => return FAILS,
            Truth::Unsure => return EITHER,
            _ => {}
        }
    }
    work_ends(scenario, step, item, step.get("input").is_some())
}

/// Approval, budget, keys.
fn asked_before(step: &Value, input: &Value) -> Ends {
    let mut ends = COMPLETES;
    if step["approval"].get("expires").is_some() {
        ends = EITHER;
    }
    if let Some(budget) = step.get("budget") {
        ends = ends.and(match (budget.get("amount"), budget["exceeded"].as_str()) {
            (_, Some("fail")) => EITHER,
            (None, _) => COMPLETES,
            (Some(_), exceeded) => match &input["amount"] {
                Value::Number(amount) if amount.as_f64() < Some(0.0) => FAILS,
                Value::Number(amount) if exceeded == Some("ask") || amount.as_f64() <= budget["limit"].as_f64() => {
                    COMPLETES
                }
                _ => FAILS,
            },
        });
    }
    if step.get("concurrency").is_some() || step.get("fair").is_some() {
        // Keys that are missing or too long may be refused.
        let usable = matches!(&input["k"], Value::String(k) if (1..=100).contains(&k.len())) || input["k"].is_number();
        ends = ends.and(if usable { COMPLETES } else { EITHER });
    }
    ends
}

/// The work itself. With an input of its own the oracle does not look into it.
fn work_ends(scenario: &Scenario, step: &Value, input: &Value, own_input: bool) -> Ends {
    if let Some(flow) = step["flow"].as_str() {
        return match (step["detached"] == true, own_input) {
            (true, _) => COMPLETES,
            (_, true) => EITHER,
            _ => run_ends(scenario, flow, input),
        };
    }
    if let Some(wait) = step.get("wait_signal") {
        let key = wait.get("key").map(|_| &input["k"]);
        if key.is_some_and(|key| !key.is_string() && !key.is_number()) {
            return FAILS;
        }
        let long = key.and_then(Value::as_str).is_some_and(|key| key.len() > 100);
        let may_fail = wait.get("timeout").is_some() && wait["on_timeout"] != "continue";
        return if may_fail || long { EITHER } else { COMPLETES };
    }
    let with = &step["with"];
    let attempts = step["retry"]["attempts"].as_i64().unwrap_or(5);
    match with["do"].as_str() {
        Some("fail" | "final") => FAILS,
        Some("flaky") if with["times"].as_i64() >= Some(attempts) => FAILS,
        Some("script") => script_ends(scenario, with, attempts),
        _ => COMPLETES,
    }
}

fn script_ends(scenario: &Scenario, with: &Value, attempts: i64) -> Ends {
    let stages = with["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let waits = stages.iter().flat_map(|stage| stage["all"].as_array().or(stage["race"].as_array())).flatten();
    waits.filter(|wait| wait.get("external").is_some()).fold(COMPLETES, |ends, wait| {
        // Each report of a failure is one failed attempt, and no more than one.
        let key = wait["key"].as_str().unwrap_or_default();
        let enough = wait.get("ms").is_none() && failures_reported(&scenario.acts, key) < attempts;
        ends.and(if enough { COMPLETES } else { EITHER })
    })
}

fn failures_reported(acts: &[Act], of: &str) -> i64 {
    acts.iter()
        .map(|act| match act {
            Act::External { key, failed: true, .. } => i64::from(key == of),
            Act::Together { acts } => failures_reported(acts, of),
            _ => 0,
        })
        .sum()
}

fn is_unusable(template: &Value, input: &Value) -> bool {
    mentions(template, TIME) && time(input.get("at")) == Truth::Unusable
}

fn mentions(template: &Value, expression: &str) -> bool {
    match template {
        Value::String(text) => text == expression,
        Value::Object(fields) => fields.values().any(|value| mentions(value, expression)),
        _ => false,
    }
}
