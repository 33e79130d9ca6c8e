//! From what the database keeps back to what can be deployed: durations as people write them, phases as phases, and nothing
//! that the database worked out for itself.

use std::time::Duration;

use longhaul_schema::{Flow, Span};
use serde_json::{Map, Value, json};

/// The flow of a stored definition. Deployed again it is the same version; anywhere else it is that flow.
pub fn from_stored(definition: &Value) -> Result<Flow, String> {
    let mut flow = as_written(definition.clone());
    let Some(fields) = flow.as_object_mut() else { return Err("the stored definition is no object".into()) };
    fields.remove("output_reads");
    let steps = match fields.remove("steps") {
        Some(Value::Array(steps)) => steps.into_iter().map(step).collect::<Vec<_>>(),
        _ => return Err("the stored definition has no steps".into()),
    };
    if steps.iter().any(|step| step.get("phase").is_some()) {
        fields.insert("phases".into(), phases(steps));
    } else {
        fields.insert("steps".into(), steps.into());
    }
    serde_json::from_value(flow).map_err(|e| format!("the stored definition is not one that this program knows: {e}"))
}

/// Without what is null, and with durations instead of milliseconds; settings, templates and constants stay as they are.
fn as_written(value: Value) -> Value {
    const AS_IT_IS: &[&str] = &["with", "input", "output", "key", "amount"];
    match value {
        Value::Object(fields) => {
            let written = fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
                match (name.strip_suffix("_ms"), value.as_u64()) {
                    (Some(name), Some(ms)) => {
                        (name.to_owned(), json!(Span::from(Duration::from_millis(ms)).to_string()))
                    }
                    _ if AS_IT_IS.contains(&name.as_str()) => (name, value),
                    _ => (name, as_written(value)),
                }
            });
            Value::Object(written.collect())
        }
        Value::Array(items) => items.into_iter().map(as_written).collect(),
        other => other,
    }
}

/// What only a step with a handler has stands in the stored form of every step.
fn step(mut step: Value) -> Value {
    if let Some(fields) = step.as_object_mut()
        && !fields.contains_key("handler")
    {
        for key in ["queue", "retry", "timeout", "with", "concurrency", "fair"] {
            fields.remove(key);
        }
    }
    step
}

fn phases(steps: Vec<Value>) -> Value {
    let mut phases: Vec<(String, Vec<Value>)> = Vec::new();
    for mut step in steps {
        let name = step.as_object_mut().and_then(|fields| fields.remove("phase"));
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        match phases.last_mut() {
            Some((last, steps)) if *last == name => steps.push(step),
            _ => phases.push((name, vec![step])),
        }
    }
    let phases = phases.into_iter().map(|(name, steps)| {
        Value::Object(Map::from_iter([("name".to_owned(), name.into()), ("steps".to_owned(), steps.into())]))
    });
    phases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_and_settings_stay() {
        let stored = json!({
            "name": "f", "version": 2, "description": null, "timeout_ms": 90_000, "output": { "x_ms": 5 }, "output_reads": [0],
            "steps": [
                { "name": "a", "handler": "h", "queue": "default", "priority": 0, "after": [], "timeout_ms": null, "with": { "wait_ms": 7, "none": null },
                  "retry": { "attempts": 5, "backoff_ms": 1000, "factor": 2, "cap_ms": 3_600_000, "jitter": 0.2 } },
                { "name": "b", "handler": null, "sleep_ms": 86_400_000, "queue": "default", "priority": 0, "after": ["a"], "with": null, "retry": { "attempts": 5, "backoff_ms": 1000, "factor": 2, "cap_ms": 3_600_000, "jitter": 0.2 } },
            ],
        });
        let flow = from_stored(&stored).unwrap();
        assert_eq!(flow.timeout.unwrap().to_string(), "90s");
        assert_eq!(flow.output.unwrap(), json!({ "x_ms": 5 }));
        assert_eq!(Value::Object(flow.steps[0].parameters.clone().unwrap()), json!({ "wait_ms": 7, "none": null }));
        assert_eq!(flow.steps[1].sleep.unwrap().to_string(), "1d");
        assert!(flow.steps[1].retry.is_none());
        from_stored(&json!({ "name": "f", "version": 1, "steps": [{ "name": "a", "new_key": 1 }] })).unwrap_err();
    }
}
