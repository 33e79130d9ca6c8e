//! What handlers relied on while they ran: checkpoints and locks. Only their own lines are asked.

use std::collections::{BTreeMap, HashMap};

use super::facts::{Facts, Key};
use crate::{
    handlers::HOLD,
    record::{Deed, Line},
};

/// Places of durable functions whose value changed, and that were computed again after a value had been given.
pub fn checkpoints(facts: &Facts) -> Vec<String> {
    let mut values: HashMap<(Key, &str), &str> = HashMap::new();
    let mut given: HashMap<(Key, &str), i32> = HashMap::new();
    let mut violations = Vec::new();
    for line in &facts.lines {
        let key = (line.run, line.seq);
        match &line.deed {
            Deed::Goes { place, value } => {
                let first = values.entry((key, place)).or_insert(value);
                if *first != value {
                    violations
                        .push(format!("run {} went on with {first} at {place}, and later with {value}", line.run));
                }
                let least = given.entry((key, place)).or_insert(line.token);
                *least = line.token.min(*least);
            }
            Deed::Compute { place } if given.get(&(key, place.as_str())).is_some_and(|token| *token < line.token) => {
                violations.push(format!(
                    "run {}: attempt {} computed {place} again, although an earlier one had gone on with it",
                    line.run, line.token
                ));
            }
            _ => {}
        }
    }
    violations
}

/// The time in which a lock was held for certain, by the handlers' clock.
struct Hold {
    token: i64,
    from: u128,
    until: u128,
}

/// Locks that two had at the same time, and tokens that were given twice or fell.
pub fn locks(facts: &Facts) -> Vec<String> {
    let mut holds: BTreeMap<&str, Vec<Hold>> = BTreeMap::new();
    for Line { deed, at, .. } in &facts.lines {
        match deed {
            // Granted at some time between the asking and the line: held at least until its time is over, counted from the asking.
            Deed::Acquired { lock, token, asked } => {
                let hold = Hold { token: *token, from: *at, until: asked + HOLD.as_nanos() };
                holds.entry(lock).or_default().push(hold);
            }
            Deed::Released { lock, token } => {
                let hold =
                    holds.get_mut(lock.as_str()).and_then(|all| all.iter_mut().find(|hold| hold.token == *token));
                if let Some(hold) = hold {
                    hold.until = hold.until.min(*at);
                }
            }
            _ => {}
        }
    }
    let mut violations = Vec::new();
    for (lock, mut holds) in holds {
        holds.retain(|hold| hold.from < hold.until);
        holds.sort_by_key(|hold| hold.from);
        for pair in holds.windows(2) {
            if pair[1].from < pair[0].until {
                violations
                    .push(format!("{lock} was held under the tokens {} and {} at once", pair[0].token, pair[1].token));
            }
            if pair[1].token <= pair[0].token {
                violations.push(format!("{lock}: after the token {} came {}", pair[0].token, pair[1].token));
            }
        }
    }
    violations
}

/// How many locks were taken, for the report.
pub fn acquisitions(facts: &Facts) -> usize {
    facts.lines.iter().filter(|line| matches!(line.deed, Deed::Acquired { .. })).count()
}
