//! `retention`: deleting ended runs by policies.

use clap::{Args, Subcommand};
use longhaul_schema::{
    Span,
    calls::{RetentionPolicy, RunState},
};
use serde_json::json;

use super::{Context, Failure, output::Cell, retention_run::Run};

/// Commands below `retention`.
#[derive(Debug, Subcommand)]
pub(super) enum Retention {
    /// List the policies.
    List,
    /// Make or change a policy.
    #[command(after_help = "\
Examples:
  longhaul retention put done --state completed --age 30d
  longhaul retention put orders --flow order --age 365d --keep-last 1000
  longhaul retention put audit --flow payment --age 90d --archive")]
    Put(Put),
    /// Delete a policy.
    Delete {
        /// Name of the policy.
        name: String,
    },
    /// Show what the policies would delete now, and delete nothing.
    Plan,
    /// Delete what the policies say, in batches with a pause between them.
    #[command(after_help = "\
Schedulers do this by themselves, up to 1000 runs a minute and more while there is
more, but for what a policy wants in an archive (retention put --archive): that is
deleted by this command alone, and only with --archive, once it stands in the file.
See also ops/cron/longhaul-retention.

Example:
  longhaul retention run --archive /var/backups/longhaul")]
    Run(Run),
    /// Show how many runs and signals there are, by age.
    Stats,
}

/// Options of `retention put`.
#[derive(Debug, Args)]
pub(super) struct Put {
    /// Name of the policy.
    name: String,
    /// Runs of this final state only: completed, failed or cancelled.
    #[arg(long)]
    state: Option<RunState>,
    /// Runs of this flow only.
    #[arg(long)]
    flow: Option<String>,
    /// That ended longer ago than this.
    #[arg(long, value_name = "TIME")]
    age: Span,
    /// But for the last so many of each flow.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    keep_last: i32,
    /// Only once they stand in an archive: by `retention run --archive`, and never by schedulers.
    #[arg(long)]
    archive: bool,
}

impl Retention {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let (calls, tenant) = (client.database().calls().await?, client.database().tenant().to_owned());
        let output = context.output;
        match self {
            Self::List => {
                let policies = calls.list_retention_policies(&tenant).await?;
                if output.json {
                    for p in policies {
                        output.json(&json!({ "name": p.name, "state": p.state, "flow": p.flow, "age": Span::from(p.age).to_string(), "keep_last": p.keep_last, "archive": p.archive }));
                    }
                    return Ok(());
                }
                let rows = policies.iter().map(|p| {
                    vec![
                        Cell::new(&p.name),
                        Cell::new(p.state.map_or("any", RunState::as_str)),
                        Cell::new(p.flow.as_deref().unwrap_or("any")),
                        Cell::new(Span::from(p.age)),
                        Cell::new(p.keep_last),
                        Cell::new(if p.archive { "yes" } else { "no" }),
                    ]
                });
                output.table(&["POLICY", "STATE", "FLOW", "AGE", "KEEP LAST", "ARCHIVE"], rows.collect());
            }
            Self::Put(put) => {
                let age = put.age.as_duration();
                let (name, archive) = (put.name, put.archive);
                let policy =
                    RetentionPolicy { name, state: put.state, flow: put.flow, age, keep_last: put.keep_last, archive };
                calls.put_retention_policy(&tenant, &policy).await?;
                if output.json {
                    output.json(&json!({ "policy": policy.name }));
                } else {
                    output.line(&format!("policy {} stored.", policy.name));
                }
            }
            Self::Delete { name } => {
                calls.delete_retention_policy(&tenant, &name).await?;
                if output.json {
                    output.json(&json!({ "policy": name }));
                } else {
                    output.line(&format!("policy {name} deleted."));
                }
            }
            Self::Plan => {
                let plan = calls.retention_plan(&tenant).await?;
                if output.json {
                    for p in plan {
                        output.json(&json!({
                            "policy": p.policy, "runs": p.runs, "oldest": p.oldest, "newest": p.newest, "archive": p.archive,
                            "complete": p.complete,
                        }));
                    }
                    return Ok(());
                }
                let rows = plan.iter().map(|p| {
                    vec![
                        Cell::new(&p.policy),
                        Cell::new(if p.complete { p.runs.to_string() } else { format!("{} or more", p.runs) }),
                        Cell::time(p.oldest),
                        Cell::time(p.newest),
                        Cell::new(if p.archive { "by retention run --archive" } else { "by schedulers" }),
                    ]
                });
                output.table(&["POLICY", "RUNS", "OLDEST", "NEWEST", "DELETED"], rows.collect());
            }
            Self::Run(run) => {
                drop(calls);
                run.delete(&client, &tenant, output).await?;
            }
            Self::Stats => {
                let figures = calls.retention_stats(&tenant).await?;
                if output.json {
                    for f in figures {
                        output.json(&json!({
                            "kind": f.kind, "total": f.total, "last_24h": f.last_24h, "last_7d": f.last_7d, "last_30d": f.last_30d,
                            "older": f.older, "oldest": f.oldest, "newest": f.newest, "estimated": f.estimated,
                        }));
                    }
                    return Ok(());
                }
                let rows = figures.iter().map(|f| {
                    vec![
                        Cell::new(if f.estimated { format!("{} (about)", f.kind) } else { f.kind.clone() }),
                        Cell::new(f.total),
                        Cell::new(f.last_24h),
                        Cell::new(f.last_7d),
                        Cell::new(f.last_30d),
                        Cell::new(f.older),
                        Cell::time(f.oldest),
                        Cell::time(f.newest),
                    ]
                });
                output.table(&["", "TOTAL", "24 H", "7 D", "30 D", "OLDER", "OLDEST", "NEWEST"], rows.collect());
            }
        }
        Ok(())
    }
}
