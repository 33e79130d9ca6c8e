//! What can be said of a flow without a database: whether its steps are of one kind, have names of their own, wait for each
//! other in an order, and have settings that mean something and are within bounds. The database looks at all of it again, and at expressions, when the flow is deployed.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_schema::{
    Flow, Span, Step,
    names::{check_handler, check_label},
};

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
    problems.extend(settings_of_flow(flow));
    problems.extend(steps.iter().flat_map(|step| settings(step)));
    problems.extend(cycle(&steps).map(|names| format!("the steps wait for each other in a cycle: {names}")));
    problems
}

/// Names and bounds of a flow itself. The words are those of the database, which looks at all of this again.
fn settings_of_flow(flow: &Flow) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(check_label("flow", &flow.name).err().map(|error| error.to_string()));
    if flow.version < 1 {
        problems.push(format!("flow {}: version must be a whole number from 1 on, not {}", flow.name, flow.version));
    }
    if flow.timeout.is_some_and(nothing) {
        problems.push("timeout must be longer than 0; without a timeout there is no limit".to_owned());
    }
    for phase in &flow.phases {
        problems.extend(check_label("phase", &phase.name).err().map(|error| error.to_string()));
        if phase.steps.is_empty() {
            problems.push(format!("phase {}: steps must be a list of at least one step", phase.name));
        }
    }
    problems
}

fn nothing(span: Span) -> bool {
    span.as_duration().is_zero()
}

/// Names and bounds of a step, and settings that mean nothing for a step of its kind.
fn settings(step: &Step) -> Vec<String> {
    let mut problems = Vec::new();
    let mut wrong = |what: String| problems.push(format!("step {}: {what}", step.name));
    let names = [
        check_label("step", &step.name),
        step.handler.as_deref().map_or(Ok(()), check_handler),
        step.compensate.as_deref().map_or(Ok(()), check_handler),
        step.flow.as_deref().map_or(Ok(()), |name| check_label("flow", name)),
        step.queue.as_deref().map_or(Ok(()), |name| check_label("queue", name)),
    ];
    names.into_iter().filter_map(Result::err).for_each(|error| wrong(error.to_string()));
    let kind = match step {
        Step { handler: Some(_), .. } => "handler",
        Step { flow: Some(_), .. } => "flow",
        Step { sleep: Some(_), .. } => "sleep",
        _ => "wait_signal",
    };
    let only: [(&str, bool, &[&str]); 11] = [
        ("retry", step.retry.is_some(), &["handler"]),
        ("timeout", step.timeout.is_some(), &["handler"]),
        ("queue", step.queue.is_some(), &["handler"]),
        ("concurrency", step.concurrency.is_some(), &["handler"]),
        ("fair", step.fair.is_some(), &["handler"]),
        ("with", step.parameters.is_some(), &["handler"]),
        ("compensate", step.compensate.is_some(), &["handler", "flow"]),
        ("detached", step.detached, &["flow"]),
        ("flow_version", step.flow_version.is_some(), &["flow"]),
        ("for_each", step.for_each.is_some(), &["handler", "flow"]),
        ("input", step.input.is_some(), &["handler", "flow"]),
    ];
    for (key, _, _) in only.iter().filter(|(_, said, kinds)| *said && !kinds.contains(&kind)) {
        wrong(format!("{key} has no meaning for a step that is a {kind}"));
    }
    if step.window.is_some() && step.for_each.is_none() {
        wrong("window has no meaning without for_each".to_owned());
    }
    let mut whole = |key: &str, value: Option<i64>, least: i64, most: i64| {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            wrong(format!("{key} must be a whole number from {least} to {most}, not {value}"));
        }
    };
    whole("priority", Some(step.priority.into()), -1000, 1000);
    whole("window", step.window.map(Into::into), 1, 10_000);
    whole("flow_version", step.flow_version.map(Into::into), 1, i32::MAX.into());
    whole("retry.attempts", step.retry.as_ref().map(|retry| retry.attempts.into()), 1, 30_000);
    whole("concurrency.limit", step.concurrency.as_ref().map(|bound| bound.limit.into()), 1, 1_000_000);
    let mut number = |key: &str, value: Option<f64>, least: f64, most: f64| {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            wrong(format!("{key} must be from {least} to {most}, not {value}"));
        }
    };
    number("retry.factor", step.retry.as_ref().map(|retry| retry.factor), 1.0, 100.0);
    number("retry.jitter", step.retry.as_ref().map(|retry| retry.jitter), 0.0, 1.0);
    number("fair.weight", step.fair.as_ref().map(|fair| fair.weight), 0.001, 1000.0);
    if step.timeout.is_some_and(nothing) {
        wrong("timeout must be longer than 0; without a timeout there is no limit".to_owned());
    }
    if let Some(budget) = &step.budget {
        if let Err(error) = check_label("budget", &budget.name) {
            wrong(error.to_string());
        }
        if budget.limit.is_nan() || budget.limit <= 0.0 {
            wrong(format!("budget.limit must be a number above 0, not {}", budget.limit));
        }
        if budget.per.as_duration().as_secs() < 1 {
            wrong(format!("budget.per must be a duration of at least 1s, not {}", budget.per));
        }
    }
    if step.wait_signal.as_ref().is_some_and(|wait| wait.topic.is_empty()) {
        wrong("wait_signal.topic must be a text that is not empty".to_owned());
    }
    if let Some(approval) = &step.approval {
        let choices = approval.choices.as_deref();
        if choices.is_some_and(<[String]>::is_empty) {
            wrong("approval.choices is empty".to_owned());
        }
        if approval.by.as_deref().is_some_and(<[String]>::is_empty) {
            wrong("approval.by is empty, so that nobody could decide; leave it out to let everybody".to_owned());
        }
        let among =
            |choice: &String| choices.map_or(choice == "approve" || choice == "reject", |all| all.contains(choice));
        if let Some(default) = approval.default.as_ref().filter(|default| !among(default)) {
            wrong(format!("approval.default {default:?} is not among the choices"));
        }
    }
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
