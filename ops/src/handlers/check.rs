//! The settings of built-in handlers, looked at before anything runs: whoever deploys a flow learns of a mistake then, and not
//! from the run of the next night.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_schema::{Flow, Step};
use minijinja::Environment;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    command, http,
    template::{environment, mentioned_steps},
    variables,
};
use crate::similar::did_you_mean;

/// What is wrong with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the step.
    pub step: String,
    /// The setting, as in `with.args`, and what is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step {}: {}", self.step, self.reason)
    }
}

/// What templates can name.
const NAMES: &[&str] = &["input", "steps", "run", "attempt"];
const OF_RUN: &[&str] = &["id", "flow", "version", "key"];

/// Functions that Jinja has.
const FUNCTIONS: &[&str] =
    &["range", "dict", "namespace", "debug", "loop", "self", "super", "cycler", "joiner", "caller"];

/// Methods that are in wide use, and a few that are not. A misspelt one would only be found out by the server that is called.
const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "QUERY",
    "SEARCH",
    "REPORT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "PURGE",
    "LINK",
    "UNLINK",
];

/// Checks the settings of all steps that `command` and `http` do.
pub fn check(flow: &Flow) -> Vec<Problem> {
    let before = predecessors(flow);
    let language = environment();
    let mut problems = Vec::new();
    for step in steps(flow) {
        let (mut reasons, texts) = match step.handler.as_deref() {
            Some("command") => judged::<command::Settings>(step, "program", of_command, |s| owned(s.texts())),
            Some("http") => judged::<http::Settings>(step, "url", of_http, |s| owned(s.texts())),
            _ => continue,
        };
        let context = Context { step, before: before.get(step.name.as_str()), all: before.keys().copied().collect() };
        reasons.extend(texts.iter().flat_map(|text| of_template(text, language, &context)));
        problems.extend(reasons.into_iter().map(|reason| Problem { step: step.name.clone(), reason }));
    }
    problems
}

fn owned<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    texts.map(str::to_owned).collect()
}

fn steps(flow: &Flow) -> impl Iterator<Item = &Step> {
    flow.steps.iter().chain(flow.phases.iter().flat_map(|phase| &phase.steps))
}

/// The steps that have surely ended before each step begins: those in `after`, theirs, and all of earlier phases.
fn predecessors(flow: &Flow) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut earlier: BTreeSet<&str> = BTreeSet::new();
    let mut before = BTreeMap::new();
    let groups = std::iter::once(&flow.steps).chain(flow.phases.iter().map(|phase| &phase.steps));
    for group in groups {
        for step in group {
            before.insert(step.name.as_str(), earlier.clone());
        }
        for step in group {
            let mut open: Vec<&str> = step.after.iter().map(String::as_str).collect();
            let mut seen = BTreeSet::new();
            while let Some(name) = open.pop() {
                if seen.insert(name) {
                    let further = group.iter().filter(|other| other.name == name).flat_map(|other| &other.after);
                    open.extend(further.map(String::as_str));
                }
            }
            before.entry(step.name.as_str()).or_default().extend(seen);
        }
        earlier.extend(group.iter().map(|step| step.name.as_str()));
    }
    before
}

/// What is wrong with a step's settings, and their texts.
fn judged<T: DeserializeOwned>(
    step: &Step,
    needed: &str,
    judge: impl Fn(&T) -> Vec<String>,
    texts: impl Fn(&T) -> Vec<String>,
) -> (Vec<String>, Vec<String>) {
    match read::<T>(step, needed) {
        Ok(settings) => (judge(&settings), texts(&settings)),
        Err(reasons) => (reasons, Vec::new()),
    }
}

/// Reads settings. When they do not fit, each is read by itself, so that the message can name it.
fn read<T: DeserializeOwned>(step: &Step, needed: &str) -> Result<T, Vec<String>> {
    let given = step.parameters.clone().unwrap_or_default();
    let error = match serde_json::from_value(Value::Object(given.clone())) {
        Ok(settings) => return Ok(settings),
        Err(error) => error,
    };
    let reasons: Vec<String> = given
        .iter()
        .filter_map(|(key, value)| {
            let mut alone = Map::from_iter([(needed.to_owned(), Value::String(String::new()))]);
            alone.insert(key.clone(), value.clone());
            let error = serde_json::from_value::<T>(Value::Object(alone)).err()?;
            Some(format!("with.{key}: {}", in_words(key, &error.to_string())))
        })
        .collect();
    Err(if reasons.is_empty() { vec![format!("with: {error}")] } else { reasons })
}

/// What serde says, with what to write instead.
fn in_words(key: &str, error: &str) -> String {
    let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    if error.starts_with("unknown field") {
        return format!("unknown setting{}; known are {}", did_you_mean(key, known.iter().copied()), known.join(", "));
    }
    if error.contains("expected a sequence") {
        return format!("{error}: write a list, as in [\"-l\", \"/tmp\"]");
    }
    if key == "args" && error.contains("expected a string") {
        return format!("{error}: write each argument as a text, in quotes");
    }
    error.to_owned()
}

fn of_command(settings: &command::Settings) -> Vec<String> {
    let program = &settings.program;
    let mut reasons = Vec::new();
    if program.is_empty() {
        reasons.push("with.program: is empty".to_owned());
    } else if program.contains("{{") || program.contains("{%") {
        reasons.push("with.program: a program is fixed, and no template".to_owned());
    } else if program.contains(char::is_whitespace) {
        reasons.push(format!(
            "with.program: {program:?} is no program but a line of a shell; write the program alone, and a list of its args"
        ));
    }
    reasons.extend(settings.env.keys().filter_map(|name| Some(format!("with.env: {}", variables::refusal(name)?))));
    reasons
}

fn of_http(settings: &http::Settings) -> Vec<String> {
    let mut reasons = Vec::new();
    let method = settings.method.to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        let hint = did_you_mean(&method, METHODS.iter().copied());
        reasons.push(format!("with.method: {:?} is no HTTP method{hint}", settings.method));
    }
    if settings.url.is_empty() {
        reasons.push("with.url: is empty".to_owned());
    } else if !settings.url.contains("{{") && !settings.url.contains("{%") {
        match reqwest::Url::parse(&settings.url) {
            Err(error) => reasons.push(format!("with.url: {:?} is not a URL: {error}", settings.url)),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                reasons.push(format!("with.url: {url}: only http and https are supported"));
            }
            Ok(_) => {}
        }
    }
    for name in settings.headers.keys() {
        if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            reasons.push(format!("with.headers: {name:?} is no name of a header"));
        }
    }
    reasons
}

/// Where a template stands.
struct Context<'a> {
    step: &'a Step,
    before: Option<&'a BTreeSet<&'a str>>,
    all: BTreeSet<&'a str>,
}

fn of_template(text: &str, language: &Environment<'_>, context: &Context<'_>) -> Vec<String> {
    if !text.contains("{{") && !text.contains("{%") {
        return Vec::new();
    }
    let wrong = |reason: String| format!("with: the text {text:?}: {reason}");
    let template = match language.template_from_str(text) {
        Ok(template) => template,
        Err(error) => return vec![wrong(error.to_string())],
    };
    let mut reasons = Vec::new();
    for name in template.undeclared_variables(true) {
        let (first, rest) = name.split_once('.').unwrap_or((&name, ""));
        if first == "item" && context.step.for_each.is_some() {
            reasons.push(wrong("there is no item here: in a fan-out, `input` is the item".into()));
        } else if !NAMES.contains(&first) && !FUNCTIONS.contains(&first) {
            let hint = did_you_mean(first, NAMES.iter().copied());
            reasons.push(wrong(format!("there is no {first}{hint}; known are {}", NAMES.join(", "))));
        } else if first == "run" && !rest.is_empty() {
            let of_run = rest.split('.').next().unwrap_or_default();
            if !OF_RUN.contains(&of_run) {
                reasons.push(wrong(format!("there is no run.{of_run}; known are run.{}", OF_RUN.join(", run."))));
            }
        }
    }
    for name in mentioned_steps(text).collect::<BTreeSet<_>>() {
        if !context.all.contains(name) {
            let hint = did_you_mean(name, context.all.iter().copied());
            reasons.push(wrong(format!("the flow has no step {name}{hint}")));
        } else if !context.before.is_some_and(|before| before.contains(name)) {
            reasons.push(wrong(format!("step {name} need not have ended by then: name it in `after`")));
        }
    }
    for filter in filters(text) {
        let rendered = language.render_str(&format!("{{{{ 'x' | {filter} }}}}"), ());
        if rendered.is_err_and(|error| error.kind() == minijinja::ErrorKind::UnknownFilter) {
            reasons.push(wrong(format!("there is no filter {filter}")));
        }
    }
    reasons.sort();
    reasons
}

/// The names of the filters in a template: what follows a bar within braces, outside of quotes.
fn filters(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let (mut inside, mut quote) = (false, None);
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        match (inside, quote) {
            (true, Some(open)) if c == open => quote = None,
            (true, Some(_)) => {}
            (true, None) if c == '"' || c == '\'' => quote = Some(c),
            (true, None) if rest.starts_with("}}") || rest.starts_with("%}") => inside = false,
            (true, None) if c == '|' => {
                let name = rest[1..].trim_start();
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                found.extend(Some(&name[..end]).filter(|name| !name.is_empty()));
            }
            (false, _) if rest.starts_with("{{") || rest.starts_with("{%") => inside = true,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use longhaul_schema::Step;
    use serde_json::json;

    use super::*;

    fn problems(handler: &str, with: Value) -> String {
        let mut step = Step::new("b", handler).after("a");
        step.parameters = with.as_object().cloned();
        let flow = Flow::new("f", 1).step(Step::new("a", "h")).step(Step::new("z", "h")).step(step);
        check(&flow).iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn mistakes_in_settings_are_named() {
        let command = |more: Value| {
            let mut with = json!({ "program": "ls" });
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            problems("command", with)
        };
        for (problem, expected) in [
            (problems("command", json!(null)), "with: missing field `program`"),
            (
                command(json!({ "args": "-l /tmp" })),
                "with.args: invalid type: string \"-l /tmp\", expected a sequence: write a list",
            ),
            (command(json!({ "args": [1] })), "with.args: invalid type: integer `1`, expected a string: write each"),
            (
                command(json!({ "stdot": "json" })),
                "with.stdot: unknown setting; did you mean stdout?; known are program",
            ),
            (command(json!({ "stdout": "yaml" })), "with.stdout: unknown variant"),
            (command(json!({ "program": "ls -l | wc -l" })), "line of a shell"),
            (command(json!({ "env": { "LD_PRELOAD": "/x" } })), "can never set LD_PRELOAD"),
            (command(json!({ "args": ["{{ steps.aa.stdout }}"] })), "the flow has no step aa; did you mean a?"),
            (command(json!({ "args": ["{{ steps.z.stdout }}"] })), "step z need not have ended by then"),
            (command(json!({ "args": ["{{ item }}"] })), "there is no item; known are input, steps, run, attempt"),
            (command(json!({ "args": ["{{ run.nmae }}"] })), "there is no run.nmae"),
            (command(json!({ "args": ["{{ input.x | lenght }}"] })), "there is no filter lenght"),
            (command(json!({ "args": ["{{ input."] })), "the text \"{{ input.\""),
            (
                problems("http", json!({ "url": "http://x", "method": "psot" })),
                "with.method: \"psot\" is no HTTP method; did you mean POST?",
            ),
            (
                problems("http", json!({ "url": "http://x", "header": {} })),
                "with.header: unknown setting; did you mean headers?",
            ),
            (problems("http", json!({ "url": "x" })), "is not a URL"),
            (problems("http", json!({ "url": "ftp://x/" })), "only http and https"),
            (problems("http", json!({ "url": "http://x", "headers": { "a b": "c" } })), "no name of a header"),
            (problems("http", json!({ "url": "http://x", "body": { "deep": ["{{ steps.q }}"] } })), "has no step q"),
        ] {
            assert!(problem.contains(expected), "{problem:?} should say {expected:?}");
        }
    }

    #[test]
    fn what_is_right_passes() {
        for with in [
            json!({ "program": "ls", "args": ["{{ steps.a.stdout | default('|') }}", "{{ input.n }}", "{% for x in range(3) %}{{ x }}{{ loop.index }}{% endfor %}"], "env": { "COLOUR": "red" } }),
            json!({ "program": "./run.sh", "folder": "/srv", "fail_on": [2], "stdout": "nul", "args": ["a | b", "{{ run.key }}"] }),
        ] {
            assert_eq!(problems("command", with), "");
        }
        assert_eq!(problems("http", json!({ "url": "https://x/{{ input.id | urlencode }}", "method": "patch" })), "");
        assert_eq!(problems("mine", json!({ "anything": "{{" })), "");
        let mut item = Step::new("each", "command").for_each("$.input");
        item.parameters = json!({ "program": "ls", "args": ["{{ item }}"] }).as_object().cloned();
        assert!(check(&Flow::new("f", 1).step(item))[0].reason.contains("`input` is the item"));
    }
}
