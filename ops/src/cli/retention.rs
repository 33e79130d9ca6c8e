//! `retention`: deleting ended runs by policies.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use flate2::{Compression, write::GzEncoder};
use indicatif::{ProgressBar, ProgressStyle};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Payload, Span,
    calls::{RetentionPolicy, RunState},
};
use serde_json::json;

use super::{Context, Failure, output::Cell};

/// Commands below `retention`.
#[derive(Debug, Subcommand)]
pub(super) enum Retention {
    /// List the policies.
    List,
    /// Make or change a policy.
    #[command(after_help = "\
Examples:
  longhaul retention put done --state completed --age 30d
  longhaul retention put orders --flow order --age 365d --keep-last 1000")]
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
more. This is for cron, for archives, and for the first time. See also
ops/cron/longhaul-retention.

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
}

/// Options of `retention run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Runs in one batch.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    batch: i32,
    /// Pause between batches.
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    pause: Span,
    /// Write each run to a compressed JSON Lines file in this folder before it is deleted.
    #[arg(long, value_name = "FOLDER")]
    archive: Option<PathBuf>,
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
                        output.json(&json!({ "name": p.name, "state": p.state, "flow": p.flow, "age": Span::from(p.age).to_string(), "keep_last": p.keep_last }));
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
                    ]
                });
                output.table(&["POLICY", "STATE", "FLOW", "AGE", "KEEP LAST"], rows.collect());
            }
            Self::Put(put) => {
                let age = put.age.as_duration();
                let policy =
                    RetentionPolicy { name: put.name, state: put.state, flow: put.flow, age, keep_last: put.keep_last };
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
                        output.json(
                            &json!({ "policy": p.policy, "runs": p.runs, "oldest": p.oldest, "newest": p.newest }),
                        );
                    }
                    return Ok(());
                }
                let rows = plan
                    .iter()
                    .map(|p| vec![Cell::new(&p.policy), Cell::new(p.runs), Cell::time(p.oldest), Cell::time(p.newest)]);
                output.table(&["POLICY", "RUNS", "OLDEST", "NEWEST"], rows.collect());
            }
            Self::Run(run) => {
                drop(calls);
                let deleted = run.delete(&client, &tenant).await?;
                if output.json {
                    output.json(&json!({ "deleted": deleted }));
                } else {
                    output.line(&format!("{deleted} runs deleted."));
                }
            }
            Self::Stats => {
                let figures = calls.retention_stats(&tenant).await?;
                if output.json {
                    for f in figures {
                        output.json(&json!({
                            "kind": f.kind, "total": f.total, "last_24h": f.last_24h, "last_7d": f.last_7d, "last_30d": f.last_30d,
                            "older": f.older, "oldest": f.oldest, "newest": f.newest,
                        }));
                    }
                    return Ok(());
                }
                let rows = figures.iter().map(|f| {
                    vec![
                        Cell::new(&f.kind),
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

impl Run {
    async fn delete(&self, client: &Client, tenant: &str) -> Result<i64, Failure> {
        let planned: i64 = client.database().calls().await?.retention_plan(tenant).await?.iter().map(|p| p.runs).sum();
        let bar = ProgressBar::new(planned.unsigned_abs());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {per_sec}") {
            bar.set_style(style);
        }
        let mut archive = self.archive.as_deref().map(Archive::create).transpose()?;
        let mut deleted = 0;
        loop {
            let calls = client.database().calls().await?;
            let runs = calls.retention_candidates(tenant, self.batch).await?;
            if runs.is_empty() {
                break;
            }
            if let Some(archive) = &mut archive {
                // On disk before it is gone from the database.
                for part in runs.chunks(100) {
                    archive.write(&calls.archived_runs(part).await?)?;
                }
                archive.sync()?;
            }
            let gone = calls.delete_runs(&runs).await?;
            deleted += gone;
            bar.inc(gone.unsigned_abs());
            if gone == 0 {
                // Somebody is at all of them; the next time will do.
                break;
            }
            drop(calls);
            tokio::time::sleep(self.pause.as_duration().max(Duration::from_millis(1))).await;
        }
        bar.finish_and_clear();
        if let Some(archive) = archive {
            archive.finish()?;
        }
        Ok(deleted)
    }
}

/// A file of compressed JSON Lines.
struct Archive {
    file: PathBuf,
    writer: GzEncoder<std::fs::File>,
}

impl Archive {
    fn create(folder: &Path) -> Result<Self, Failure> {
        let name = format!("runs-{}.jsonl.gz", chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ"));
        let file = folder.join(name);
        let created = std::fs::create_dir_all(folder).and_then(|()| std::fs::File::create_new(&file));
        match created {
            Ok(handle) => Ok(Self { file, writer: GzEncoder::new(handle, Compression::default()) }),
            Err(error) => Err(Failure::new(1, format!("{}: {error}", file.display()))),
        }
    }

    fn write(&mut self, runs: &[Payload]) -> Result<(), Failure> {
        for run in runs {
            writeln!(self.writer, "{}", run.as_str()).map_err(|e| self.failed(&e))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.writer.flush().and_then(|()| self.writer.get_ref().sync_data()).map_err(|e| self.failed(&e))
    }

    fn finish(self) -> Result<(), Failure> {
        let file = self.file.clone();
        self.writer
            .finish()
            .and_then(|handle| handle.sync_all())
            .map_err(|e| Failure::new(1, format!("{}: {e}", file.display())))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(1, format!("{}: {error}", self.file.display()))
    }
}
