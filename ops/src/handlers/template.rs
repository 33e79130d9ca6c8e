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

        let mut names = BTreeSet::new();
        for text in texts.filter(|text| text.contains("{{")) {
            let template = environment.template_from_str(text).map_err(|e| malformed(text, &e))?;
            for variable in template.undeclared_variables(true) {
                if let Some(name) = variable.strip_prefix("steps.") {
                    names.insert(name.split('.').next().unwrap_or(name).to_owned());
                }
            }
        }
        let mut steps = BTreeMap::new();
        for name in names {
            let output: Value = context.output(&name).await?;
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
