//! Flows in files: YAML or JSON, one schema. With the built-in handlers, a pipeline needs no Rust.

mod export;
mod structure;

use std::path::{Path, PathBuf};

use longhaul_schema::Flow;

use crate::handlers;

pub use export::from_stored;

/// Why a flow file was refused.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct FlowFileError {
    file: PathBuf,
    reason: String,
}

/// Largest flow file, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a flow file: JSON when its name ends in `.json`, YAML otherwise. Errors name the file, and line and column where the
/// parser knows them. Whether the steps fit together is checked by the database when the flow is deployed.
pub fn read(file: &Path) -> Result<Flow, FlowFileError> {
    let refuse = |reason: String| FlowFileError { file: file.into(), reason };
    let size = std::fs::metadata(file).map_err(|e| refuse(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(refuse(format!("the file has {size} bytes, more than the limit of {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| refuse(e.to_string()))?;
    if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))
    } else {
        serde_saphyr::from_str(&text).map_err(|e| refuse(in_words(&text, e.without_snippet())))
    }
}

/// What the parser says, with what to write instead where that is known, and the line that it is about.
fn in_words(file: &str, error: &serde_saphyr::Error) -> String {
    // What its own caller could set is nothing for the author of a flow.
    let text = error.to_string().replace(", set DuplicateKeyPolicy in Options if acceptable", "");
    let hint = if text.contains("expected sequence start") {
        "; a list is needed here, as in [a, b]"
    } else if text.contains("expected mapping start") {
        "; keys are needed here, as in { attempts: 3 }"
    } else if text.contains("expected string scalar") {
        "; a text is needed here, and a path is one too, as in $.input.items"
    } else if text.contains("invalid i32") || text.contains("invalid u") {
        "; a whole number is needed here"
    } else {
        ""
    };
    let number = error.location().and_then(|location| usize::try_from(location.line()).ok());
    let line = number.and_then(|number| file.lines().nth(number.checked_sub(1)?)).map(str::trim);
    let line = line.filter(|line| !line.is_empty()).map(|line| format!("; the line is: {line}")).unwrap_or_default();
    format!("{text}{hint}{line}")
}

/// Looks at a flow without a database: how its steps fit together, and the settings of the built-in handlers. Each mistake
/// names the file and, where it can, the line. Expressions are checked by the database, at deployment.
pub fn check(file: &Path, flow: &Flow) -> Vec<String> {
    let problems = structure::problems(flow).into_iter().chain(check_settings(flow));
    problems.map(|problem| located(file, &problem)).collect()
}

/// The settings of the built-in handlers alone.
pub fn check_settings(flow: &Flow) -> impl Iterator<Item = String> {
    handlers::check(flow).into_iter().map(|problem| problem.to_string())
}

/// A refusal of the database, with the place in the file that it is about: `file:line: reason`. The database knows steps and
/// keys by name; the line is where the file names them.
pub fn located(file: &Path, reason: &str) -> String {
    let line = std::fs::read_to_string(file).ok().and_then(|text| line_of(&text, reason));
    match line {
        Some(line) => format!("{}:{line}: {reason}", file.display()),
        None => format!("{}: {reason}", file.display()),
    }
}

/// The line of a text, from 1, that a reason is about.
fn line_of(text: &str, reason: &str) -> Option<usize> {
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned();
    let words: Vec<String> = reason.split_whitespace().map(bare).collect();
    let lines: Vec<&str> = text.lines().collect();
    let says = |line: &str, key: &str, value: Option<&str>| {
        // `key: value`, `"key": "value"` or `{ key: value, … }`, and no longer words that contain them.
        line.split([',', '{', '}', '[', ']']).any(|part| {
            let Some((left, right)) = part.split_once(':') else { return false };
            bare(left.trim().trim_start_matches('-')) == key && value.is_none_or(|value| bare(right) == value)
        })
    };
    // A name in the middle of a line is that of something within a step.
    let begins_item =
        |line: &str| bare(line.trim().trim_start_matches('-').split(':').next().unwrap_or_default()) == "name";
    let named = words.windows(2).find_map(|pair| {
        let introduces = matches!(pair[0].as_str(), "step" | "steps" | "named" | "phase" | "cycle");
        let mut found = lines.iter().enumerate().filter(|(_, line)| introduces && says(line, "name", Some(&pair[1])));
        // Of two that have one name, the second is the mistake.
        let twice = reason.contains(" has two steps named ");
        found.nth(usize::from(twice)).map(|(at, _)| at)
    });
    let start = named.unwrap_or(0);
    let end = lines.iter().skip(start + 1).position(|line| begins_item(line)).map_or(lines.len(), |n| start + 1 + n);
    // The key that the reason mentions, within that step.
    const KEYS: &[&str] = &[
        "wait_signal",
        "for_each",
        "on_failure",
        "compensate",
        "flow_version",
        "approval",
        "priority",
        "detached",
        "handler",
        "timeout",
        "budget",
        "window",
        "output",
        "phases",
        "version",
        "queue",
        "retry",
        "sleep",
        "input",
        "after",
        "when",
        "flow",
        "with",
    ];
    let mentioned = words.iter().flat_map(|word| word.split('.')).map(bare).find_map(|word| {
        let key = KEYS.iter().find(|key| **key == word)?;
        lines[start..end].iter().position(|line| says(line, key, None)).map(|n| start + n)
    });
    // A setting, as in `with.args`, stands below its `with`.
    let setting = words.iter().find_map(|word| word.strip_prefix("with.")).and_then(|setting| {
        let begin = mentioned.unwrap_or(start);
        lines[begin..end.max(begin)].iter().position(|line| says(line, setting, None)).map(|n| begin + n)
    });
    setting.or(mentioned).or(named).map(|line| line + 1)
}

/// The JSON Schema of flow files, for editors.
pub fn json_schema() -> String {
    let mut schema = schemars::schema_for!(Flow);
    schema.insert("title".into(), "Longhaul flow".into());
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Flow, FlowFileError> {
        let folder = std::env::temp_dir().join(format!("longhaul-flow-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "name: a\nversion: 1\nsteps:\n  - name: x\n    handler: command\n    timeout: 90s\n    retry: { attempts: 2 }\n    with: { program: echo, args: [hi] }\n";
        let json = r#"{"name":"a","version":1,"steps":[{"name":"x","handler":"command","timeout":"90s","retry":{"attempts":2},"with":{"program":"echo","args":["hi"]}}]}"#;
        assert_eq!(read_text("a.yaml", yaml).unwrap(), read_text("a.json", json).unwrap());
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        for (name, text, place) in [
            ("b.yaml", "name: a\nversion: 1\nsteps:\n  - name: x\n    handlr: h\n", "handlr"),
            ("c.yaml", "name: a\nversion: one\nsteps: []\n", "line 2"),
            ("d.json", "{\n\"name\": 3}", "line 2"),
            ("e.yaml", "name: a\nversion: 1\nsteps:\n  - name: x\n    handler: h\n    timeout: soon\n", "soon"),
            ("f.yaml", "", "f.yaml"),
            ("g.yaml", "a: &a [*a, *a]\n", "g.yaml"),
        ] {
            let error = read_text(name, text).unwrap_err().to_string();
            assert!(error.contains(place), "{name}: {error}");
        }
        assert!(read(Path::new("/nowhere/x.yaml")).unwrap_err().to_string().contains("/nowhere/x.yaml"));
    }

    #[test]
    fn the_published_schema_is_the_present_one() {
        let published = concat!(env!("CARGO_MANIFEST_DIR"), "/flow.schema.json");
        assert_eq!(
            std::fs::read_to_string(published).unwrap_or_default(),
            json_schema(),
            "write it anew: longhaul flow schema > ops/flow.schema.json"
        );
    }
}
