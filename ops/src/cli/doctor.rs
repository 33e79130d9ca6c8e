//! `doctor`: is everything as it should be?

use clap::Args;
use comfy_table::Color;
use longhaul_schema::{Database, Error, calls::Executor, migrate};
use serde_json::json;

use super::{Context, Failure, checks, output::Cell};

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0: no check failed (there may be warnings); 1: a check failed, or with --strict: warned."
)]
pub(super) struct Doctor {
    /// Warnings fail as well: for probes and alerts.
    #[arg(long)]
    strict: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Bad => "failed",
        }
    }

    fn colour(self) -> Color {
        match self {
            Self::Good => Color::Green,
            Self::Warning => Color::Yellow,
            Self::Bad => Color::Red,
        }
    }
}

pub(crate) type Check = (&'static str, Verdict, String);

impl Doctor {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = Database::new(&context.connection.config()?.pool_size(1))?;
        let checks = findings(&database).await?;
        if context.output.json {
            for (name, verdict, finding) in &checks {
                context.output.json(&json!({ "check": name, "verdict": verdict.word(), "finding": finding }));
            }
        } else {
            let rows = checks.iter().map(|(name, verdict, finding)| {
                vec![Cell::new(verdict.word()).fg(verdict.colour()), Cell::new(name), Cell::new(finding)]
            });
            context.output.table(&["", "CHECK", "FINDING"], rows.collect());
        }
        let count = |wanted| checks.iter().filter(|(_, verdict, _)| *verdict == wanted).count();
        match (count(Verdict::Bad), count(Verdict::Warning)) {
            (0, warnings) if warnings > 0 && self.strict => Err(Failure::new(1, format!("{warnings} warnings"))),
            (0, _) => Ok(()),
            (bad, _) => Err(Failure::new(1, format!("{bad} checks failed"))),
        }
    }
}

/// All that can be found out.
pub(crate) async fn findings(database: &Database) -> Result<Vec<Check>, Failure> {
    let mut checks = vec![connection(database).await];
    if checks[0].1 == Verdict::Good {
        checks.push(installation(database).await);
    }
    if checks.iter().all(|(_, verdict, _)| *verdict == Verdict::Good) {
        checks.extend(checks::all(&database.calls().await?).await?);
    }
    Ok(checks)
}

async fn connection(database: &Database) -> Check {
    let target = database.config().connection.describe();
    let asked = async {
        let connection = database.connection().await?;
        let row = connection
            .rows("select current_setting('server_version'), current_setting('server_version_num')::int", &[])
            .await?;
        Ok::<(String, i32), Error>((row[0].get(0), row[0].get(1)))
    };
    match asked.await {
        Ok((version, number)) if number < 140_000 => {
            ("connection", Verdict::Bad, format!("PostgreSQL {version} is too old; 14 is needed"))
        }
        Ok((version, _)) => ("connection", Verdict::Good, format!("{target}, PostgreSQL {version}")),
        Err(error) => ("connection", Verdict::Bad, format!("{target}: {error}")),
    }
}

async fn installation(database: &Database) -> Check {
    match migrate::check(database).await {
        Ok(version) => ("installation", Verdict::Good, format!("schema {}, version {version}", database.schema())),
        Err(error) => ("installation", Verdict::Bad, error.to_string()),
    }
}
