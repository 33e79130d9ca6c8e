//! `flow`: deploying and reading flows.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Subcommand;
use longhaul_scheduler::Client;
use longhaul_schema::Flow;
use serde_json::json;

use super::{
    Context, Failure,
    output::Cell,
    runs::value,
    terminal::{self, safe},
};
use crate::{flow_file, similar::did_you_mean};

/// Commands below `flow`.
#[derive(Debug, Subcommand)]
pub(super) enum FlowCommand {
    /// Deploy flows from YAML or JSON files. A deployed version never changes; the same file again changes nothing.
    #[command(after_help = "Example:\n  longhaul flow deploy flows/*.yaml")]
    Deploy {
        /// The files, one flow each.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Look for mistakes in flow files, without a database: how the steps fit together, the settings of `command` and `http`,
    /// and their templates. Expressions are looked at when a flow is deployed.
    #[command(after_help = "Example:\n  longhaul flow check flows/*.yaml       exit code 2 when there is a mistake")]
    Check {
        /// The files, one flow each.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print a flow as a file that can be deployed, here or elsewhere: YAML, or JSON with --json.
    #[command(after_help = "Example:\n  longhaul flow export order > order.yaml")]
    Export {
        /// Name of the flow.
        name: String,
        /// Its version; the latest by default.
        #[arg(long)]
        version: Option<i32>,
    },
    /// List all flow versions.
    List,
    /// Show a flow's definition with its defaults filled in.
    Show {
        /// Name of the flow.
        name: String,
        /// Its version; the latest by default.
        #[arg(long)]
        version: Option<i32>,
    },
    /// Show how two versions of a flow differ.
    Diff {
        /// Name of the flow.
        name: String,
        /// The one version.
        from: i32,
        /// The other version.
        to: i32,
    },
    /// Show how many live runs each version of a flow has.
    Live {
        /// Name of the flow.
        name: String,
    },
    /// Print the JSON Schema of flow files, for editors.
    Schema,
}

impl FlowCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let output = context.output;
        match self {
            Self::Deploy { files } => {
                // All files are looked at first: a mistake in the last one deploys none.
                let flows = files.iter().map(|file| flow_file::read(file)).collect::<Result<Vec<_>, _>>()?;
                refuse(flows.iter().zip(&files).flat_map(|(flow, file)| {
                    flow_file::check_settings(flow)
                        .map(|problem| flow_file::located(file, &problem))
                        .collect::<Vec<_>>()
                }))?;
                let client = context.connection.client().await?;
                for (flow, file) in flows.iter().zip(&files) {
                    let deployed = client.deploy(flow).await.map_err(|e| located(file, e))?;
                    if output.json {
                        output.json(
                            &json!({ "flow": flow.name, "version": deployed.version, "created": deployed.created }),
                        );
                    } else {
                        let word = if deployed.created { "deployed" } else { "was deployed already" };
                        output.line(&format!("{} version {} {word}.", flow.name, deployed.version));
                    }
                }
                warn_of_unknown_handlers(&client, &flows).await?;
                warn_of_unknown_flows(&client, &flows).await
            }
            Self::Check { files } => {
                let mut problems = Vec::new();
                for file in &files {
                    match flow_file::read(file) {
                        Ok(flow) => problems.extend(flow_file::check(file, &flow)),
                        Err(error) => problems.push(error.to_string()),
                    }
                }
                refuse(problems.into_iter())?;
                if output.json {
                    output.json(&json!({ "files": files.len(), "problems": 0 }));
                } else {
                    let noun = if files.len() == 1 { "file" } else { "files" };
                    output.line(&format!("{} {noun}, no mistake found.", files.len()));
                }
                Ok(())
            }
            Self::Export { name, version } => {
                let flow = context.connection.client().await?.flow(&name, version).await?;
                let flow = flow_file::from_stored(&flow.definition.read()?).map_err(|e| Failure::new(1, e))?;
                let pretty = serde_json::to_string_pretty(&flow).unwrap_or_default();
                match serde_saphyr::to_string(&flow) {
                    _ if output.json => output.json(&flow),
                    // JSON is YAML as well, and knows escapes for what must not be shown as it is.
                    Ok(yaml) if yaml.lines().all(|line| safe(line) == line) => output.text(&yaml),
                    _ => output.json_text(&pretty),
                }
                Ok(())
            }
            Self::List => {
                let flows = context.connection.client().await?.flows().await?;
                if output.json {
                    for flow in flows {
                        output.json(&json!({ "flow": &*flow.name, "version": flow.version, "steps": flow.steps, "deployed_at": flow.deployed_at }));
                    }
                } else {
                    let rows = flows.iter().map(|f| {
                        vec![Cell::new(&f.name), Cell::new(f.version), Cell::new(f.steps), Cell::time(f.deployed_at)]
                    });
                    output.table(&["FLOW", "VERSION", "STEPS", "DEPLOYED"], rows.collect());
                }
                Ok(())
            }
            Self::Show { name, version } => {
                let flow = context.connection.client().await?.flow(&name, version).await?;
                let definition: serde_json::Value = flow.definition.read()?;
                if output.json {
                    output.json(&definition);
                } else {
                    output.json_text(&serde_json::to_string_pretty(&definition).unwrap_or_default());
                }
                Ok(())
            }
            Self::Diff { name, from, to } => {
                let differences = context.connection.client().await?.flow_difference(&name, from, to).await?;
                for d in differences {
                    let (before, after) = (value(d.before.as_ref()), value(d.after.as_ref()));
                    if output.json {
                        output.json(&json!({ "step": d.step, "change": d.change, "before": before, "after": after }));
                        continue;
                    }
                    let subject = d.step.map_or_else(|| "the flow".to_owned(), |step| format!("step {step}"));
                    output.line(&format!("{subject} {}", d.change));
                    for (sign, side) in [('-', before), ('+', after)] {
                        for (key, value) in side.as_object().into_iter().flatten() {
                            output.line(&format!("  {sign} {key}: {value}"));
                        }
                    }
                }
                Ok(())
            }
            Self::Live { name } => {
                let client = context.connection.client().await?;
                client.flow(&name, None).await?;
                for (version, runs) in client.live_versions(&name).await? {
                    if output.json {
                        output.json(&json!({ "version": version, "live_runs": runs }));
                    } else {
                        output.line(&format!(
                            "version {version}: {runs} live {}",
                            if runs == 1 { "run" } else { "runs" }
                        ));
                    }
                }
                Ok(())
            }
            Self::Schema => {
                output.json_text(flow_file::json_schema().trim_end());
                Ok(())
            }
        }
    }
}

/// Tells all mistakes; fails if there are any.
fn refuse(problems: impl Iterator<Item = String>) -> Result<(), Failure> {
    let problems: Vec<String> = problems.collect();
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::usage(one)),
        [first, others @ ..] => {
            others.iter().for_each(|problem| terminal::tell(&format!("error: {problem}")));
            Err(Failure::usage(format!("{first} ({} mistakes)", problems.len())))
        }
    }
}

/// A misspelt handler is no error: its worker may come later. But it is said.
async fn warn_of_unknown_handlers(client: &Client, flows: &[Flow]) -> Result<(), Failure> {
    let database = client.database();
    let known = database.retrying(|calls| async move { calls.registered_handlers(database.tenant()).await }).await?;
    let steps = flows.iter().flat_map(|flow| flow.steps.iter().chain(flow.phases.iter().flat_map(|p| &p.steps)));
    let named: BTreeSet<&str> =
        steps.flat_map(|step| step.handler.as_deref().into_iter().chain(step.compensate.as_deref())).collect();
    for handler in named.into_iter().filter(|handler| !known.iter().any(|known| known == handler)) {
        let hint = match handler {
            "command" => "; it is there when a worker runs with --allow-command".to_owned(),
            "http" => "; any `longhaul worker` has it".to_owned(),
            _ => did_you_mean(handler, known.iter().map(String::as_str).chain(["command", "http"])),
        };
        terminal::tell(&format!("warning: no worker has registered handler {handler} so far{hint}"));
    }
    Ok(())
}

/// Nor is a flow that is to come later; but a step that starts it fails until then.
async fn warn_of_unknown_flows(client: &Client, flows: &[Flow]) -> Result<(), Failure> {
    let steps = flows.iter().flat_map(|flow| flow.steps.iter().chain(flow.phases.iter().flat_map(|p| &p.steps)));
    let named: BTreeSet<&str> = steps.filter_map(|step| step.flow.as_deref()).collect();
    if named.is_empty() {
        return Ok(());
    }
    let known = client.flows().await?;
    for flow in named.into_iter().filter(|flow| !known.iter().any(|known| *known.name == **flow)) {
        let hint = did_you_mean(flow, known.iter().map(|known| &*known.name));
        terminal::tell(&format!("warning: flow {flow} has not been deployed so far{hint}"));
    }
    Ok(())
}

/// The database's refusal, with the file that it is about.
fn located(file: &std::path::Path, error: longhaul_schema::Error) -> Failure {
    use longhaul_schema::Error;
    match error {
        Error::Invalid(reason) => Error::Invalid(flow_file::located(file, &reason)).into(),
        Error::Conflict(reason) => Error::Conflict(flow_file::located(file, &reason)).into(),
        other => other.into(),
    }
}
