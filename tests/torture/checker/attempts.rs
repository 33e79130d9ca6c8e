//! Attempts and their order: the handlers' lines against the database's steps.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::facts::{Facts, Key};
use crate::{handlers::doomed, load::Asked, record::Deed};

/// Accepted runs that are not there, and runs that ended otherwise than they had to.
pub fn lost(facts: &Facts, asked: &Asked) -> Vec<String> {
    let missing = asked
        .accepted
        .iter()
        .filter(|id| !facts.runs.contains_key(*id))
        .map(|id| format!("run {id} was accepted and is not there"));
    let otherwise = facts.runs.iter().filter(|(id, run)| {
        let fails = (run.flow == "saga" && doomed(**id)) || (run.flow == "approved" && run.rejected);
        match run.state.as_str() {
            "completed" => fails,
            "failed" => !fails,
            // Children end with their parents.
            "cancelled" => !run.child && !asked.stopped.contains(*id),
            _ => true,
        }
    });
    missing.chain(otherwise.map(|(id, run)| format!("run {id} of flow {} is {}", run.flow, run.state))).collect()
}

pub fn begun_twice(facts: &Facts) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut violations = Vec::new();
    for line in facts.lines.iter().filter(|line| line.deed == Deed::Begin) {
        let attempt = (line.run, line.seq, line.token);
        if !seen.insert(attempt) {
            violations.push(format!("run {} step {} attempt {} was begun twice", line.run, line.seq, line.token));
        }
        if !facts.claims.contains(&attempt) {
            violations.push(format!(
                "run {} step {} attempt {} was begun, but the database knows no such claim",
                line.run, line.seq, line.token
            ));
        }
    }
    violations
}

pub fn foreign_outputs(facts: &Facts) -> Vec<String> {
    let completed = facts.steps.iter().filter(|step| step.outcome.as_deref() == Some("completed"));
    completed
        .filter(|step| step.handled && (step.attempt.is_none() || step.attempt != step.made_by))
        .map(|step| {
            format!(
                "run {} step {}: completed by attempt {:?}, output of {:?}",
                step.run, step.seq, step.attempt, step.made_by
            )
        })
        .collect()
}

pub fn begun_after_completion(facts: &Facts) -> Vec<String> {
    let completed: HashMap<Key, i32> =
        facts.steps.iter().filter_map(|step| Some(((step.run, step.seq), step.attempt?))).collect();
    let later = facts.lines.iter().filter(|line| {
        line.deed == Deed::Begin && completed.get(&(line.run, line.seq)).is_some_and(|attempt| line.token > *attempt)
    });
    later
        .map(|line| {
            format!(
                "run {} step {}: attempt {} was begun although an earlier one completed it",
                line.run, line.seq, line.token
            )
        })
        .collect()
}

pub fn out_of_order(facts: &Facts) -> Vec<String> {
    let ended: HashMap<(Uuid, i32, i32), u128> = facts
        .lines
        .iter()
        .filter(|line| line.deed == Deed::End)
        .map(|line| ((line.run, line.seq, line.token), line.at))
        .collect();
    let steps = facts.steps_by_key();
    let mut violations = Vec::new();
    for line in facts.lines.iter().filter(|line| line.deed == Deed::Begin) {
        let Some(step) = steps.get(&(line.run, line.seq)) else { continue };
        for predecessor in &step.predecessors {
            let completing = steps.get(&(line.run, *predecessor)).and_then(|p| p.attempt).unwrap_or(0);
            match ended.get(&(line.run, *predecessor, completing)) {
                Some(at) if *at <= line.at => {}
                _ => violations
                    .push(format!("run {} step {} began before step {predecessor} had ended", line.run, line.seq)),
            }
        }
    }
    violations
}
