//! Failing scenarios are cut down: whatever can be left out without losing the finding is left out.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scenario::{Act, Scenario};

/// Cuts a scenario down as long as it still fails in the same way. `fails` does it, and says so.
pub async fn shrunk(scenario: Scenario, time: Duration, mut fails: impl AsyncFnMut(&Scenario) -> bool) -> Scenario {
    let mut best = scenario;
    let until = Instant::now() + time;
    loop {
        let before = best.clone();
        let mut size = (best.acts.len() / 2).max(1);
        while size > 0 {
            let mut from = 0;
            while from < best.acts.len() && Instant::now() < until {
                let mut less = best.clone();
                less.acts.drain(from..(from + size).min(less.acts.len()));
                if fails(&less).await { best = less } else { from += size }
            }
            size /= 2;
        }
        for smaller in simpler(&best) {
            if Instant::now() > until {
                break;
            }
            // What was cut off meanwhile may have made it something else: each candidate is made from what stands now.
            if let Some(less) = smaller(&best)
                && fails(&less).await
            {
                best = less;
            }
        }
        if best == before || Instant::now() > until {
            return best;
        }
    }
}

type Cut = Box<dyn Fn(&Scenario) -> Option<Scenario>>;

/// Smaller flows, smaller inputs, plainer acts.
fn simpler(scenario: &Scenario) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    for flow in 0..scenario.flows.len() {
        let steps = scenario.flows[flow]["steps"].as_array().map_or(0, Vec::len);
        cuts.push(Box::new(move |s| {
            let mut less = s.clone();
            (flow < less.flows.len()).then(|| less.flows.remove(flow))?;
            Some(less)
        }));
        for step in (0..steps).rev() {
            cuts.push(Box::new(move |s| without_step(s, flow, step)));
        }
        for key in ["output", "timeout"] {
            cuts.push(Box::new(move |s| without_key(s, flow, None, key)));
        }
        for step in 0..steps {
            for key in [
                "when",
                "input",
                "for_each",
                "window",
                "on_failure",
                "compensate",
                "approval",
                "budget",
                "concurrency",
                "fair",
                "queue",
                "retry",
                "after",
                "with",
            ] {
                cuts.push(Box::new(move |s| without_key(s, flow, Some(step), key)));
            }
        }
    }
    for act in 0..scenario.acts.len() {
        if matches!(scenario.acts[act], Act::Together { .. }) {
            cuts.push(Box::new(move |s| one_after_the_other(s, act)));
        }
        for key in ["n", "at", "flag", "k", "amount", "items", "many"] {
            cuts.push(Box::new(move |s| without_input(s, act, key)));
        }
    }
    cuts
}

fn without_step(scenario: &Scenario, flow: usize, step: usize) -> Option<Scenario> {
    let mut less = scenario.clone();
    let steps = less.flows.get_mut(flow)?["steps"].as_array_mut()?;
    if steps.len() < 2 || step >= steps.len() {
        return None;
    }
    let gone = steps.remove(step)["name"].clone();
    for other in steps {
        if let Some(after) = other["after"].as_array_mut() {
            after.retain(|name| *name != gone);
        }
    }
    Some(less)
}

fn without_key(scenario: &Scenario, flow: usize, step: Option<usize>, key: &str) -> Option<Scenario> {
    let mut less = scenario.clone();
    let flow = less.flows.get_mut(flow)?;
    let place = match step {
        Some(step) => flow["steps"].get_mut(step)?,
        None => flow,
    };
    place.as_object_mut()?.remove(key)?;
    Some(less)
}

fn one_after_the_other(scenario: &Scenario, act: usize) -> Option<Scenario> {
    let mut less = scenario.clone();
    let Act::Together { acts } = less.acts.get(act)?.clone() else { return None };
    less.acts.splice(act..=act, acts);
    Some(less)
}

fn without_input(scenario: &Scenario, act: usize, key: &str) -> Option<Scenario> {
    let mut less = scenario.clone();
    let (Act::Start { input, .. }
    | Act::Create { input, .. }
    | Act::StartUnique { input, .. }
    | Act::Schedule { input, .. }) = less.acts.get_mut(act)?
    else {
        return None;
    };
    let _: Value = input.as_object_mut()?.remove(key)?;
    Some(less)
}
