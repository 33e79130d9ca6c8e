//! Texts with `{{ … }}` in the settings of the built-in handlers.
//!
//! Known are `input` (the step's input), `steps.NAME` (the output of a step named in `after`), `run` (`id`, `flow`, `version`,
//! `key`: the idempotency key) and `attempt`. The language is Jinja's (minijinja) with its filters; unknown names are errors,
//! not empty text.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use longhaul_worker::{StepContext, StepError};
use minijinja::{Environment, UndefinedBehavior};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// What encodes a part of a URL: all but what RFC 3986 never reserves, so that no value ends its part.
const URL_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The language, with Jinja's filters and tests and some that everybody knows.
pub(super) fn environment() -> &'static Environment<'static> {
    static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(language);
    &LANGUAGE
}

fn language() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("urlencode", |value: &minijinja::Value| {
        utf8_percent_encode(&value.to_string(), URL_PART).to_string()
    });
    environment.add_filter("basename", |path: String| {
        path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    });
    environment.add_filter("dirname", |path: String| match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
        None => ".".to_owned(),
    });
    environment
}

/// The expression, if a text is one `{{ … }}` and nothing else.
fn only_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
    (!inner.contains("{{") && !inner.contains("}}") && !inner.contains("{%")).then_some(inner)
}

/// Fills in the texts of one step.
pub(super) struct Templates {
    environment: &'static Environment<'static>,
    values: minijinja::Value,
}

impl Templates {
    /// Reads the outputs that any of these texts mention.
    pub(super) async fn new(
        context: &StepContext,
        input: &Value,
        texts: impl Iterator<Item = &str>,
    ) -> Result<Self, StepError> {
        let names: BTreeSet<&str> = texts.flat_map(mentioned_steps).collect();
        let mut steps = BTreeMap::new();
        for name in names {
            // Null when it was skipped or has failed, as in expressions.
            let output: Option<Value> = context.output_if_any(name).await?;
            steps.insert(name, output.unwrap_or(Value::Null));
        }
        let values = json!({
            "input": input,
            "steps": steps,
            "attempt": context.attempt(),
            "run": {
                "id": context.run_id(),
                "flow": context.flow(),
                "version": context.flow_version(),
                "key": context.idempotency_key(),
            },
        });
        Ok(Self { environment: environment(), values: minijinja::value::Serde(&values).into() })
    }

    /// The text with its places filled in.
    pub(super) fn fill(&self, text: &str) -> Result<String, StepError> {
        if !text.contains("{{") && !text.contains("{%") {
            return Ok(text.to_owned());
        }
        self.environment.render_str(text, &self.values).map_err(|e| malformed(text, &e))
    }

    /// A JSON value with the places in all its texts filled in. A text that is one expression becomes the expression's value:
    /// a number stays a number, a list a list.
    pub(super) fn fill_value(&self, value: &Value) -> Result<Value, StepError> {
        Ok(match value {
            Value::String(text) => match only_expression(text) {
                Some(expression) => self.evaluate(text, expression)?,
                None => Value::String(self.fill(text)?),
            },
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill_value(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, field)| Ok((name.clone(), self.fill_value(field)?)))
                    .collect::<Result<_, StepError>>()?,
            ),
            other => other.clone(),
        })
    }
}

impl Templates {
    fn evaluate(&self, text: &str, expression: &str) -> Result<Value, StepError> {
        let compiled = self.environment.compile_expression(expression).map_err(|e| malformed(text, &e))?;
        let value = compiled.eval(&self.values).map_err(|e| malformed(text, &e))?;
        if value.is_undefined() {
            return Err(malformed(text, &minijinja::Error::from(minijinja::ErrorKind::UndefinedError)));
        }
        serde_json::to_value(&value)
            .map_err(|e| StepError::fail(format!("the value of {text:?} cannot be written as JSON: {e}")))
    }
}

/// Names of the steps that a text mentions, as `steps.name` or `steps["name"]`: their outputs are read before it is filled in.
/// (minijinja's own list of variables ends at the first index.)
pub(super) fn mentioned_steps(text: &str) -> impl Iterator<Item = &str> {
    let in_braces = text.contains("{{") || text.contains("{%");
    text.match_indices("steps").filter(move |_| in_braces).filter_map(|(at, word)| {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
            return None;
        }
        let rest = &text[at + word.len()..];
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            return Some(&name[..end]).filter(|name| !name.is_empty());
        }
        let quoted = rest.strip_prefix('[')?.trim_start();
        let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        quoted[1..].split_once(quote).map(|(name, _)| name)
    })
}

/// All texts in a JSON value.
pub(super) fn texts_of(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts_of).collect(),
        Value::Object(fields) => fields.values().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}

fn malformed(text: &str, error: &minijinja::Error) -> StepError {
    StepError::fail(format!("the text {text:?} cannot be filled in: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(input: Value) -> Templates {
        let values = json!({ "input": input });
        Templates { environment: environment(), values: minijinja::value::Serde(&values).into() }
    }

    #[test]
    fn one_expression_keeps_its_type() {
        let input = json!({ "n": 1999, "x": 1.5, "yes": true, "none": null, "list": [1, "a"], "object": { "k": [] }, "text": "7" });
        let templates = templates(input.clone());
        for name in ["n", "x", "yes", "none", "list", "object", "text"] {
            for text in [format!("{{{{ input.{name} }}}}"), format!("{{{{-input[\"{name}\"]-}}}}")] {
                assert_eq!(templates.fill_value(&json!([text])).unwrap(), json!([input[name]]), "{text}");
            }
        }
        let filled = |text: &str| templates.fill_value(&json!(text));
        assert_eq!(filled("{{ input.n | string }}").unwrap(), "1999");
        assert_eq!(filled("{{ input.n }} cents").unwrap(), "1999 cents");
        assert_eq!(filled("{{ input.n }}{{ input.n }}").unwrap(), "19991999");
        assert_eq!(filled("{{ input.list | length }}").unwrap(), 2);
        assert_eq!(filled("{{ input.missing | default(3) }}").unwrap(), 3);
        for wrong in ["{{ input.missing }}", "{{ nobody }}", "{{ input.n | nofilter }}", "{{ }}", "{{ input. }}"] {
            filled(wrong).unwrap_err();
        }
    }

    #[test]
    fn everyday_filters_are_there() {
        let templates = templates(
            json!({ "path": "/srv/a b/c.txt", "id": "7?admin=true&x=1#y/../z %", "words": ["b", "a"], "x": 2.6 }),
        );
        for (text, expected) in [
            ("{{ input.path | basename }}", "c.txt"),
            ("{{ input.path | dirname }}", "/srv/a b"),
            ("x/{{ input.id | urlencode }}", "x/7%3Fadmin%3Dtrue%26x%3D1%23y%2F..%2Fz%20%25"),
            ("{{ input.words | first }} {{ input.words | last }} {{ input.words | sort | join('+') }}", "b a a+b"),
            ("{{ input.x | round | int }} {{ '5' | int + 1 }}", "3 6"),
            ("{{ 'a,b' | split(',') | last | upper }}", "B"),
            ("{{ input.words | tojson }}", "[\"b\", \"a\"]"),
        ] {
            assert_eq!(templates.fill(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn mentioned_steps_are_found_in_every_form() {
        let mentioned = |text| mentioned_steps(text).collect::<Vec<_>>();
        assert_eq!(mentioned("{{ steps.a.stdout[0][:64] }} {{steps.b_2}}"), ["a", "b_2"]);
        assert_eq!(mentioned("{% if steps[\"a-b\"].x %}{{ steps[ 'c.d' ] }}{% endif %}"), ["a-b", "c.d"]);
        assert_eq!(
            mentioned("{{ input.steps.a }} {{ mysteps.b }} {{ steps }} {{ steps[x] }} {{ steps['open }}"),
            [""; 0]
        );
        assert_eq!(mentioned("steps.a without braces"), [""; 0]);
    }
}
