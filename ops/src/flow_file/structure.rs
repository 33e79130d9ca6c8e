//! What can be said of a flow without a database: whether its steps are of one kind, have names of their own, and wait for each
//! other in an order. The database looks at all of it again, and at expressions, when the flow is deployed.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_schema::{Flow, Step};

use crate::similar::did_you_mean;

/// What is wrong with the steps of a flow, as sentences.
pub(super) fn problems(flow: &Flow) -> Vec<String> {
    let steps: Vec<&Step> = flow.steps.iter().chain(flow.phases.iter().flat_map(|phase| &phase.steps)).collect();
    let mut problems = Vec::new();
    match (flow.steps.is_empty(), flow.phases.is_empty()) {
        (true, true) => problems.push(format!("flow {} has no steps", flow.name)),
        (false, false) => problems.push(format!("flow {} has both steps and phases; one of them is needed", flow.name)),
        _ => {}
    }
    let mut names = BTreeSet::new();
    for step in &steps {
        if !names.insert(step.name.as_str()) {
            problems.push(format!("flow {} has two steps named {}", flow.name, step.name));
        }
        let kinds = [
            ("handler", step.handler.is_some()),
            ("flow", step.flow.is_some()),
            ("sleep", step.sleep.is_some()),
            ("wait_signal", step.wait_signal.is_some()),
        ];
        let said: Vec<&str> = kinds.iter().filter(|(_, is)| *is).map(|(kind, _)| *kind).collect();
        if said.len() != 1 {
            let not = if said.is_empty() { String::new() } else { format!(", not {}", said.join(" and ")) };
            let name = &step.name;
            problems.push(format!("step {name}: one of handler, flow, sleep and wait_signal is needed{not}"));
        }
    }
    for step in &steps {
        for other in step.after.iter().filter(|other| !names.contains(other.as_str())) {
            let hint = did_you_mean(other, names.iter().copied());
            problems.push(format!("step {}: after: {other} is no step of the flow{hint}", step.name));
        }
    }
    problems.extend(cycle(&steps).map(|names| format!("the steps wait for each other in a cycle: {names}")));
    problems
}

/// The names of steps that wait for each other, if there are any.
fn cycle(steps: &[&Step]) -> Option<String> {
    let mut open: BTreeMap<&str, &Step> = steps.iter().map(|step| (step.name.as_str(), *step)).collect();
    loop {
        let ready: Vec<&str> = open
            .values()
            .filter(|step| step.after.iter().all(|other| !open.contains_key(other.as_str())))
            .map(|step| step.name.as_str())
            .collect();
        if ready.is_empty() {
            break;
        }
        for name in ready {
            open.remove(name);
        }
    }
    // Each that is left waits for one that is left: going back from any of them ends in the cycle.
    let mut path: Vec<&str> = Vec::new();
    let mut next = open.keys().next().copied()?;
    while !path.contains(&next) {
        path.push(next);
        next = open[next].after.iter().find_map(|other| open.get_key_value(other.as_str()).map(|(name, _)| *name))?;
    }
    let begin = path.iter().position(|name| *name == next)?;
    let mut names: Vec<&str> = path[begin..].iter().rev().copied().collect();
    names.insert(0, next);
    Some(names.join(" -> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_do_not_fit_together_are_named() {
        let step = |name: &str| Step::new(name, "h");
        let of = |steps: Vec<Step>| problems(&steps.into_iter().fold(Flow::new("f", 1), Flow::step)).join("\n");
        assert_eq!(of(vec![step("a"), step("b").after("a")]), "");
        assert_eq!(of(vec![]), "flow f has no steps");
        assert_eq!(of(vec![step("a"), step("a")]), "flow f has two steps named a");
        assert_eq!(
            of(vec![step("first"), step("b").after("frist")]),
            "step b: after: frist is no step of the flow; did you mean first?"
        );
        let cycle = of(vec![step("a").after("c"), step("b").after("a"), step("c").after("b"), step("d").after("c")]);
        assert!(cycle.ends_with("a -> b -> c -> a"), "{cycle}");
        assert!(of(vec![step("a").after("a")]).ends_with("a -> a"));
        let mut both = step("a");
        both.flow = Some("g".into());
        assert!(of(vec![both]).contains("not handler and flow"));
    }
}
