//! `doctor`: is everything as it should be?

use clap::Args;
use comfy_table::Color;
use longhaul_schema::{Database, Error, calls::Executor, migrate};
use serde_json::json;

use super::{Context, Failure, output::Cell};

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
enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Verdict {
    fn word(self) -> &'static str {
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

type Check = (&'static str, Verdict, String);

impl Doctor {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = Database::new(&context.connection.config()?.pool_size(1))?;
        let mut checks = vec![connection(&database).await];
        if checks[0].1 == Verdict::Good {
            checks.push(installation(&database).await);
        }
        if checks.iter().all(|(_, verdict, _)| *verdict == Verdict::Good) {
            checks.extend(state(&database).await?);
        }
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

async fn state(database: &Database) -> Result<Vec<Check>, Failure> {
    let calls = database.calls().await?;
    let mut checks = Vec::new();

    let violations = calls.room_violations().await?;
    checks.push(match violations.first() {
        None => ("rooms", Verdict::Good, "every live step is in exactly one room".into()),
        Some(first) => {
            ("rooms", Verdict::Bad, format!("{} steps are in wrong rooms, such as {first}", violations.len()))
        }
    });

    let offset = calls.setting("clock_offset_ms").await?;
    checks.push(match offset {
        0 => ("clock", Verdict::Good, "the server's own".into()),
        offset => ("clock", Verdict::Bad, format!("moved by {offset} ms; that is for tests only")),
    });

    let figures = calls.figures().await?;
    checks.push((
        "workers",
        if figures.workers == 0 { Verdict::Warning } else { Verdict::Good },
        format!(
            "{} alive; steps: {} ready, {} running, {} sleeping",
            figures.workers, figures.ready, figures.running, figures.waiting
        ),
    ));

    checks.push(match calls.overdue_chores().await?.as_slice() {
        [] => ("chores", Verdict::Good, "all done in time".into()),
        late => {
            ("chores", Verdict::Warning, format!("overdue or failing: {}; is a scheduler running?", late.join(", ")))
        }
    });

    checks.push(match calls.unserved_lanes().await?.as_slice() {
        [] => ("handlers", Verdict::Good, "every ready step has a worker that knows its handler".into()),
        lanes => ("handlers", Verdict::Warning, format!("no worker takes {}", lanes.join(", "))),
    });

    checks.push(match calls.oldest_transaction().await? {
        Some(seconds) if seconds > 300.0 => (
            "snapshots",
            Verdict::Warning,
            format!("a transaction is open for {seconds:.0} s; it keeps dead rows from being removed"),
        ),
        _ => ("snapshots", Verdict::Good, "no transaction is open for long".into()),
    });
    Ok(checks)
}
