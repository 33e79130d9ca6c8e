//! Texts with `{{ … }}` in the settings of the built-in handlers.
//!
//! Known are `input` (the run's input), `steps.NAME` (the output of a step named in `after`), `run` (`id`, `flow`, `version`,
//! `key`: the idempotency key) and `attempt`. The language is Jinja's (minijinja); unknown names are errors, not empty text.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_worker::{StepContext, StepError};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value, json};

/// Fills in the texts of one step.
pub(super) struct Templates {
    environment: Environment<'static>,
    values: minijinja::Value,
}

impl Templates {
    /// Reads the outputs that any of these texts mention.
    pub(super) async fn new(
        context: &StepContext,
        input: &Value,
        texts: impl Iterator<Item = &str>,
    ) -> Result<Self, StepError> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("tojson", minijinja::filters::tojson);
        environment.add_filter("default", minijinja::filters::default);
        environment.add_filter("join", minijinja::filters::join);
        environment.add_filter("replace", minijinja::filters::replace);
        environment.add_filter("trim", minijinja::filters::trim);
        environment.add_filter("upper", minijinja::filters::upper);
        environment.add_filter("lower", minijinja::filters::lower);

        let names: BTreeSet<&str> = texts.flat_map(mentioned_steps).collect();
        let mut steps = BTreeMap::new();
        for name in names {
            let output: Value = context.output(name).await?;
            steps.insert(name, output);
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
        Ok(Self { environment, values: minijinja::value::Serde(&values).into() })
    }

    /// The text with its places filled in.
    pub(super) fn fill(&self, text: &str) -> Result<String, StepError> {
        if !text.contains("{{") && !text.contains("{%") {
            return Ok(text.to_owned());
        }
        self.environment.render_str(text, &self.values).map_err(|e| malformed(text, &e))
    }

    /// A JSON value with the places in all its texts filled in.
    pub(super) fn fill_value(&self, value: &Value) -> Result<Value, StepError> {
        Ok(match value {
            Value::String(text) => Value::String(self.fill(text)?),
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

/// Names of the steps that a text mentions, as `steps.name` or `steps["name"]`: their outputs are read before it is filled in.
/// (minijinja's own list of variables ends at the first index.)
fn mentioned_steps(text: &str) -> impl Iterator<Item = &str> {
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
