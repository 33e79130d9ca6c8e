//! Flows by chance: every kind of step with every setting beside every other.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

use crate::{
    expressions::{FLAG, ITEM_TIME, NUMBER, TIME, times, values},
    generate::Taste,
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Flows, simple ones first; later ones use earlier ones as children.
pub fn flows(random: &mut StdRng, taste: &Taste) -> Vec<Value> {
    let count = random.random_range(1..=3);
    (0..count).map(|number| flow(random, taste, number)).collect()
}

fn flow(random: &mut StdRng, taste: &Taste, number: usize) -> Value {
    let steps = random.random_range(1..=if number == 0 { 2 } else { 4 });
    let steps: Vec<Value> = (0..steps).map(|place| step(random, taste, number, place)).collect();
    let mut flow = json!({"name": format!("f{number}"), "version": 1, "steps": steps});
    if taste.output && random.random_bool(0.4) {
        flow["output"] = json!({"old": TIME});
    }
    if taste.deadlines && random.random_bool(0.5) {
        flow["timeout"] = json!(*["1s", "20s", "1h"].choose(random).expect("some"));
    }
    flow
}

fn step(random: &mut StdRng, taste: &Taste, flow: usize, place: usize) -> Value {
    let mut step = Map::new();
    step.insert("name".into(), json!(NAMES[place]));
    let after: Vec<&str> = NAMES[..place].iter().copied().filter(|_| random.random_bool(0.6)).collect();
    if !after.is_empty() {
        step.insert("after".into(), json!(after));
    }
    let with_child = flow > 0 && taste.children;
    let kind = random.random_range(0..10);
    let mut set = |key: &str, value: Value| step.insert(key.into(), value);
    match kind {
        0 | 1 if with_child => {
            set("flow", json!(format!("f{}", random.random_range(0..flow))));
            if random.random_bool(0.15) {
                set("detached", json!(true));
            } else if taste.compensation && random.random_bool(0.3) {
                set("compensate", json!("undo"));
            }
        }
        2 if taste.sleeps => drop(set("sleep", json!(*["0s", "1s", "5s", "30s"].choose(random).expect("some")))),
        3 if taste.signals => drop(set("wait_signal", wait_signal(random, taste))),
        _ => handler(random, taste, with_child, &mut step),
    }
    conditions(random, taste, kind, &mut step);
    Value::Object(step)
}

fn wait_signal(random: &mut StdRng, taste: &Taste) -> Value {
    let mut wait = json!({"topic": topic(random)});
    if random.random_bool(0.4) {
        wait["key"] = if taste.odd_data || random.random_bool(0.5) { json!("$.input.k") } else { json!("k0") };
    }
    if random.random_bool(0.4) {
        wait["timeout"] = json!(*["1s", "10s"].choose(random).expect("some"));
        wait["on_timeout"] = json!(*["fail", "continue"].choose(random).expect("some"));
    }
    wait
}

fn topic(random: &mut StdRng) -> String {
    format!("t{}", random.random_range(0..2))
}

fn handler(random: &mut StdRng, taste: &Taste, with_child: bool, step: &mut Map<String, Value>) {
    step.insert("handler".into(), json!("h"));
    let attempts = random.random_range(1..=3);
    let backoff = if taste.odd_data && random.random_bool(0.05) {
        "9999d"
    } else {
        *["0s", "100ms", "2s"].choose(random).expect("some")
    };
    step.insert("retry".into(), json!({"attempts": attempts, "backoff": backoff, "jitter": 0, "cap": if backoff == "9999d" { backoff } else { "1h" }}));
    let with = if taste.scripts && random.random_bool(0.5) {
        json!({"do": "script", "stages": stages(random, taste, with_child)})
    } else {
        plain_work(random, taste)
    };
    step.insert("with".into(), with);
    if taste.keys && random.random_bool(0.4) {
        step.insert(
            "concurrency".into(),
            json!({"key": "$.input.k", "limit": random.random_range(1..=2), "name": "shared"}),
        );
        // One name has one limit: flows that name different ones are a finding of their own.
        step["concurrency"]["limit"] = json!(taste.limit);
    }
    if taste.fair && random.random_bool(0.4) {
        step.insert("fair".into(), json!({"key": "$.input.k"}));
    }
    if taste.compensation && random.random_bool(0.5) {
        step.insert("compensate".into(), json!(*["undo", "undo", "undo-fails"].choose(random).expect("some")));
    }
    if taste.limited && random.random_bool(0.5) {
        step.insert("queue".into(), json!("q1"));
    }
}

fn plain_work(random: &mut StdRng, taste: &Taste) -> Value {
    if !taste.failures || random.random_bool(0.5) {
        return if taste.odd_data {
            json!({"do": "ok", "out": values(true).choose(random)})
        } else {
            json!({"do": "ok"})
        };
    }
    match random.random_range(0..9) {
        0 | 1 => json!({"do": "fail"}),
        2 => json!({"do": "final"}),
        3 | 4 => {
            json!({"do": "flaky", "times": random.random_range(1..=3), "as": *["failed", "panicked", "timed_out"].choose(random).expect("some")})
        }
        5 => json!({"do": "first", "as": "snoozed", "ms": *[0, 1000, 60000].choose(random).expect("some")}),
        6 => json!({"do": "first", "as": "deferred"}),
        7 => json!({"do": "first", "as": "released"}),
        _ => json!({"do": "hang"}),
    }
}

fn stages(random: &mut StdRng, taste: &Taste, with_child: bool) -> Vec<Value> {
    let count = random.random_range(1..=3);
    (0..count)
        .map(|number| {
            if number + 1 == count && random.random_bool(0.2) {
                let mut wait = json!({"external": "label", "key": format!("k{}", random.random_range(0..2))});
                if random.random_bool(0.2) {
                    wait["ms"] = json!(5000);
                }
                return json!({"all": [wait]});
            }
            let waits: Vec<Value> = (0..random.random_range(1..=3)).map(|_| wait(random, taste, with_child)).collect();
            if random.random_bool(0.5) { json!({"race": waits}) } else { json!({"all": waits}) }
        })
        .collect()
}

fn wait(random: &mut StdRng, taste: &Taste, with_child: bool) -> Value {
    match random.random_range(0..9) {
        0..=2 => json!({"sleep": *[0, 300, 3000, 20_000].choose(random).expect("some")}),
        3 | 4 => json!({"signal": topic(random)}),
        5 => json!({"signal": topic(random), "key": "k0", "ms": *[1000, 100_000].choose(random).expect("some")}),
        6 | 7 if with_child => json!({"child": "f0"}),
        _ if taste.questions && random.random_bool(0.6) => {
            let mut ask = json!({"ask": *["run", "step"].choose(random).expect("some")});
            if random.random_bool(0.3) {
                ask["ms"] = json!(2000);
            }
            ask
        }
        _ if taste.questions => json!({"interrupt": "why"}),
        _ => json!({"signal": topic(random)}),
    }
}

/// What stands around the work: condition, input, list, approval, budget.
fn conditions(random: &mut StdRng, taste: &Taste, kind: i32, step: &mut Map<String, Value>) {
    let worker = step.contains_key("handler") || step.contains_key("flow");
    if taste.conditions && random.random_bool(0.4) {
        step.insert("when".into(), json!(*[NUMBER, TIME, FLAG].choose(random).expect("some")));
    }
    if taste.fan_outs && worker && random.random_bool(0.4) {
        step.insert("for_each".into(), json!("$.input.items"));
        step.insert("window".into(), json!(*[1, 1, 2, 100].choose(random).expect("some")));
        if taste.conditions && random.random_bool(0.6) {
            step.insert("input".into(), json!({"x": ITEM_TIME, "i": "$.index"}));
        }
    } else if taste.conditions && worker && kind % 2 == 0 && random.random_bool(0.4) {
        step.insert("input".into(), json!({"old": TIME, "n": "$.input.n"}));
    }
    if taste.continues && random.random_bool(0.4) {
        step.insert("on_failure".into(), json!("continue"));
    }
    if taste.questions && random.random_bool(0.2) {
        let mut approval = json!({"pauses": *["run", "step"].choose(random).expect("some")});
        if random.random_bool(0.3) {
            approval["expires"] = json!("5s");
        }
        step.insert("approval".into(), approval);
    }
    if taste.budgets && random.random_bool(0.4) {
        let mut budget = json!({"name": "money", "limit": 2, "per": "10s", "exceeded": *["defer", "defer", "ask", "fail"].choose(random).expect("some")});
        if taste.odd_data && random.random_bool(0.5) {
            budget["amount"] = json!("$.input.amount");
        }
        step.insert("budget".into(), budget);
    }
}

/// An input of a run.
pub fn input(random: &mut StdRng, taste: &Taste) -> Value {
    let odd = taste.odd_data;
    let one = |random: &mut StdRng, all: Vec<Value>| all.choose(random).cloned().expect("some");
    let mut input = json!({
        "n": one(random, values(odd)),
        "at": one(random, times(odd)),
        "flag": random.random_bool(0.5),
        "k": if odd && random.random_bool(0.3) { one(random, values(true)) } else { json!(format!("k{}", random.random_range(0..2))) },
        "amount": if odd && random.random_bool(0.3) { one(random, values(true)) } else { json!(1) },
    });
    if taste.fan_outs {
        let items = random.random_range(0..=4);
        let items: Vec<Value> = (0..items).map(|_| json!({"at": one(random, times(odd))})).collect();
        input["items"] = if odd && random.random_bool(0.1) { json!("none") } else { json!(items) };
    }
    if odd && random.random_bool(0.2) {
        let gone = *["n", "at", "flag", "k", "amount", "items"].choose(random).expect("some");
        input.as_object_mut().expect("an object").remove(gone);
    }
    if odd && random.random_bool(0.03) { one(random, values(true)) } else { input }
}
