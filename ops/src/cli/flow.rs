//! `flow`: deploying and reading flows.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Context, Failure, output::Cell, runs::value};
use crate::flow_file;

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
                // All files are read first: a mistake in the last one deploys none.
                let flows = files.iter().map(|file| flow_file::read(file)).collect::<Result<Vec<_>, _>>()?;
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
                        output.line(&format!("version {version}: {runs} live runs"));
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

/// The database's refusal, with the file that it is about.
fn located(file: &std::path::Path, error: longhaul_schema::Error) -> Failure {
    use longhaul_schema::Error;
    match error {
        Error::Invalid(reason) => Error::Invalid(flow_file::located(file, &reason)).into(),
        Error::Conflict(reason) => Error::Conflict(flow_file::located(file, &reason)).into(),
        other => other.into(),
    }
}
