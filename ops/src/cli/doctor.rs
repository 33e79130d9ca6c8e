//! `doctor`: is everything as it should be?

use clap::Args;
use comfy_table::Color;
use longhaul_schema::{Database, Error, calls::Executor, migrate};
use serde_json::{Value, json};

use super::{
    Context, Failure, checks,
    output::{Cell, plural},
};

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul doctor
  longhaul doctor --strict --json    as a probe: alerts on dead letters, overdue steps, pinned snapshots, …

Exit code 0: no check failed (there may be warnings); 1: a check failed, or with --strict: warned.
In JSON each check has its figures: numbers to draw and to compare, sizes in bytes.")]
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

/// A check, and what it found.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// In words.
    pub(crate) finding: String,
    /// In numbers; null where there are none.
    pub(crate) figures: Value,
}

impl Check {
    pub(crate) fn new(name: &'static str, verdict: Verdict, finding: impl Into<String>) -> Self {
        Self { name, verdict, finding: finding.into(), figures: Value::Null }
    }

    pub(crate) fn with(self, figures: Value) -> Self {
        Self { figures, ..self }
    }
}

impl Doctor {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = Database::new(&context.connection.config()?.pool_size(1))?;
        let checks = findings(&database).await?;
        if context.output.json {
            for check in &checks {
                context.output.json(&json!({
                    "check": check.name, "verdict": check.verdict.word(), "finding": check.finding, "figures": check.figures,
                }));
            }
        } else {
            let rows = checks.iter().map(|check| {
                vec![
                    Cell::whole(check.verdict.word()).fg(check.verdict.colour()),
                    Cell::whole(check.name),
                    Cell::new(&check.finding),
                ]
            });
            context.output.table(&["", "CHECK", "FINDING"], rows.collect());
        }
        let count = |wanted| checks.iter().filter(|check: &&Check| check.verdict == wanted).count();
        match (count(Verdict::Bad), count(Verdict::Warning)) {
            (0, warnings) if warnings > 0 && self.strict => Err(Failure::new(1, plural(warnings, "warning"))),
            (0, _) => Ok(()),
            (bad, _) => Err(Failure::new(1, format!("{} failed", plural(bad, "check")))),
        }
    }
}

/// All that can be found out.
pub(crate) async fn findings(database: &Database) -> Result<Vec<Check>, Failure> {
    let mut checks = vec![connection(database).await];
    if checks[0].verdict == Verdict::Good {
        checks.push(installation(database).await);
    }
    if checks.iter().all(|check| check.verdict == Verdict::Good) {
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
            Check::new("connection", Verdict::Bad, format!("PostgreSQL {version} is too old; 14 is needed"))
        }
        Ok((version, _)) => Check::new("connection", Verdict::Good, format!("{target}, PostgreSQL {version}")),
        Err(error) => Check::new("connection", Verdict::Bad, format!("{target}: {error}")),
    }
}

async fn installation(database: &Database) -> Check {
    match migrate::check(database).await {
        Ok(version) => {
            Check::new("installation", Verdict::Good, format!("schema {}, version {version}", database.schema()))
        }
        Err(error) => Check::new("installation", Verdict::Bad, error.to_string()),
    }
}
