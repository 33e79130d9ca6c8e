//! The worker: what a program in any language does by the SQL functions. What becomes of an attempt stands in the step's `with`.

use std::collections::HashMap;

use serde_json::{Value, json};

/// An attempt that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub run: String,
    pub seq: i32,
    pub attempt: i32,
    pub failures: i32,
    pub flow: i32,
    pub def: i32,
}

/// What it knows of the steps of flows: handler and settings by flow id and number.
pub type Steps = HashMap<(i32, i32), (String, Value)>;

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    Complete(Value),
    End {
        outcome: &'static str,
        retryable: bool,
        delay_ms: Option<i64>,
    },
    Suspend(Value),
    /// Not now.
    Keep,
}

/// What the handler of an attempt comes to. The history tells what a durable function has been answered.
pub fn way(held: &Held, steps: &Steps, history: &[(String, bool)], patient: bool) -> Way {
    let Some((handler, with)) = steps.get(&(held.flow, held.def)) else { return Way::Complete(Value::Null) };
    let failed = |retryable| Way::End { outcome: "failed", retryable, delay_ms: None };
    match (handler.as_str(), with["do"].as_str().unwrap_or("ok")) {
        ("undo-fails", _) => failed(false),
        ("undo", _) => Way::Complete(json!("undone")),
        (_, "fail") => failed(true),
        (_, "final") => failed(false),
        (_, "flaky") if i64::from(held.failures) < with["times"].as_i64().unwrap_or(1) => {
            Way::End { outcome: outcome(&with["as"]), retryable: true, delay_ms: None }
        }
        (_, "first") if held.attempt == 1 => {
            Way::End { outcome: outcome(&with["as"]), retryable: true, delay_ms: with["ms"].as_i64() }
        }
        (_, "hang") if patient => Way::Keep,
        (_, "script") => script(with, history),
        _ => Way::Complete(with.get("out").cloned().unwrap_or(json!({"ok": true}))),
    }
}

fn outcome(name: &Value) -> &'static str {
    let known = ["panicked", "timed_out", "snoozed", "deferred", "released"];
    known.into_iter().find(|k| name == k).unwrap_or("failed")
}

/// A durable function: it waits for the first stage whose answers are not there yet.
fn script(with: &Value, history: &[(String, bool)]) -> Way {
    let answered = |path: &str| history.iter().any(|(known, answered)| known == path && *answered);
    for (number, stage) in with["stages"].as_array().into_iter().flatten().enumerate() {
        let race = stage.get("race").is_some();
        let waits = stage["race"].as_array().or(stage["all"].as_array()).cloned().unwrap_or_default();
        let path = |place: usize| format!("{number}.{place}");
        let done = (0..waits.len()).filter(|place| answered(&path(*place))).count();
        if done == waits.len() || (race && done > 0) {
            continue;
        }
        let open = waits.iter().enumerate().filter(|(place, _)| !answered(&path(*place)));
        return Way::Suspend(open.map(|(place, wait)| wait_for(wait, &path(place))).collect());
    }
    Way::Complete(json!("end of the script"))
}

/// A wait as suspend() wants it.
fn wait_for(wait: &Value, path: &str) -> Value {
    let mut sent = if wait.get("sleep").is_some() {
        json!({"kind": "sleep", "wait_ms": wait["sleep"]})
    } else if wait.get("signal").is_some() {
        json!({"kind": "signal", "topic": wait["signal"]})
    } else if wait.get("child").is_some() {
        json!({"kind": "child", "flow": wait["child"], "input": wait.get("input").cloned().unwrap_or(json!({"k": "k0", "at": "2023-01-01T00:00:00", "items": [], "amount": 1}))})
    } else if wait.get("ask").is_some() {
        json!({"kind": "decision", "prompt": {"question": "may I?", "pauses": wait["ask"], "expires_ms": wait["ms"]}})
    } else if wait.get("external").is_some() {
        json!({"kind": "external", "topic": wait["external"]})
    } else {
        json!({"kind": "interrupt", "prompt": {"question": "why"}})
    };
    sent["path"] = json!(path);
    if let Some(key) = wait.get("key") {
        sent["key"] = key.clone();
    }
    if let Some(ms) = wait.get("ms") {
        sent["wait_ms"] = ms.clone();
    }
    sent
}

/// A text literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The columns that name attempts.
pub fn columns(items: &[Held]) -> String {
    let list = |part: &dyn Fn(&Held) -> String| items.iter().map(part).collect::<Vec<_>>().join(",");
    format!(
        "array[{}]::uuid[], array[{}]::int[], array[{}]::int[]",
        list(&|h| quoted(&h.run)),
        list(&|h| h.seq.to_string()),
        list(&|h| h.attempt.to_string())
    )
}

/// A list of JSON values.
pub fn jsons(values: &[Value]) -> String {
    format!("array[{}]::jsonb[]", values.iter().map(|v| quoted(&v.to_string())).collect::<Vec<_>>().join(","))
}

/// Calls of workers that somebody wrote by hand, and got wrong.
pub fn garbled(what: usize, worker: &str, held: Option<&Held>) -> String {
    let nobody =
        Held { run: "00000000-0000-7000-8000-000000000000".into(), seq: 0, attempt: 1, failures: 0, flow: 0, def: 0 };
    let columns = columns(std::slice::from_ref(held.unwrap_or(&nobody)));
    let suspend =
        |waits: &str| format!("select * from longhaul.suspend({worker}, {columns}, array[{}]::jsonb[])", quoted(waits));
    let end = |outcome: &str, retryable: &str, delay: &str| {
        format!(
            "select * from longhaul.end_attempts({worker}, {columns}, array[{outcome}]::longhaul.attempt_outcome[], array[null]::jsonb[], array[{retryable}]::boolean[], array[{delay}]::bigint[])"
        )
    };
    match what % 22 {
        0 => format!("select * from longhaul.complete({worker}, null, null, null, null)"),
        1 => format!(
            "select * from longhaul.complete({worker}, array[null]::uuid[], array[0], array[1], array['1']::jsonb[])"
        ),
        2 => format!("select * from longhaul.complete({worker}, {columns}, array[]::jsonb[])"),
        3 => format!("select * from longhaul.complete({worker}, {columns}, array['1', '2']::jsonb[])"),
        4 => format!("select * from longhaul.complete(-1, {columns}, array['1']::jsonb[])"),
        5 => format!("select * from longhaul.complete(null, {columns}, array['1']::jsonb[])"),
        6 => format!("select * from longhaul.fail({worker}, {columns}, null)"),
        7 => end("'failed'", "null", "null"),
        8 => end("null", "true", "null"),
        9 => end("'expired'", "true", "null"),
        10 => end("'snoozed'", "true", "9000000000000000000"),
        11 => end("'snoozed'", "true", "-5000"),
        12 => suspend("[]"),
        13 => suspend("{}"),
        14 => suspend("[{\"kind\": \"nonsense\"}]"),
        15 => suspend("[{\"kind\": \"sleep\", \"path\": \"9\", \"wait_ms\": 1e18}]"),
        16 => suspend("[{\"kind\": \"sleep\", \"path\": \"9\", \"wait_ms\": -8000}]"),
        17 => suspend("[{\"kind\": \"sleep\", \"path\": \"9\", \"wait_ms\": \"soon\"}]"),
        18 => suspend("[{\"kind\": \"child\", \"path\": \"9\", \"flow\": \"no-such-flow\"}]"),
        19 => suspend("[{\"kind\": \"decision\", \"path\": \"9\", \"prompt\": 5}]"),
        20 => suspend("[{\"kind\": \"interrupt\", \"path\": \"9\", \"prompt\": {}, \"metadata\": [1]}]"),
        _ => format!(
            "select * from longhaul.save_checkpoints({worker}, {columns}, array[null], array[null], array[null], array[null]::jsonb[])"
        ),
    }
}
