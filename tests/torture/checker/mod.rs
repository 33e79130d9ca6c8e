//! The checker: did each guarantee hold? It compares the handlers' record with the database.

mod attempts;
mod effects;
mod facts;
mod queries;

use std::{error::Error, fmt, path::Path};

use longhaul::Client;

use self::{facts::Facts, queries::rows};
use crate::{load::Asked, record::Deed, watch::Seen};

/// What was found.
pub struct Verdict {
    runs: usize,
    steps: usize,
    begins: usize,
    outcomes: String,
    signals: usize,
    ticks: i64,
    locks: usize,
    looks: usize,
    /// Each guarantee, with its violations.
    checks: Vec<(&'static str, Vec<String>)>,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|(_, violations)| violations.is_empty())
    }

    /// The checks that found something.
    pub fn violated(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|(_, violations)| !violations.is_empty()).map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} steps, {} attempts begun; not completing: {}; {} signals, {} ticks, {} locks, {} looks at limits and pauses",
            self.runs, self.steps, self.begins, self.outcomes, self.signals, self.ticks, self.locks, self.looks
        )?;
        for (name, violations) in &self.checks {
            writeln!(f, "  {} {name}", if violations.is_empty() { "held    " } else { "VIOLATED" })?;
            for violation in violations.iter().take(5) {
                writeln!(f, "           {violation}")?;
            }
            if violations.len() > 5 {
                writeln!(f, "           … {} in all", violations.len())?;
            }
        }
        Ok(())
    }
}

pub async fn check(
    client: &Client,
    records: &Path,
    asked: &Asked,
    seen: &Seen,
    in_time: bool,
) -> Result<Verdict, Box<dyn Error>> {
    let connection = client.database().connection().await?;
    connection.batch_execute(queries::CLAIMS).await?;
    let facts = Facts::gather(&connection, records, asked).await?;
    let query = async |sql: &str| rows(&connection, sql).await;
    let mut rooms = client.database().calls().await?.room_violations().await?;
    rooms.extend(query(queries::LEFTOVERS).await?);
    let late = if in_time { Vec::new() } else { query(queries::STILL_LIVE).await? };
    let checks = vec![
        ("every run ended in time", late),
        ("no accepted run is lost, and each ended as it had to", attempts::lost(&facts, asked)),
        ("a live step is in exactly one room, and at the end none is", rooms),
        ("each attempt has one outcome", query(queries::TWO_OUTCOMES).await?),
        ("each attempt was begun at most once, and was claimed", attempts::begun_twice(&facts)),
        ("the stored output is the completing attempt's", attempts::foreign_outputs(&facts)),
        ("a completed step is not begun again", attempts::begun_after_completion(&facts)),
        ("a step begins after its predecessors have ended", attempts::out_of_order(&facts)),
        ("nothing of a stopped run is claimed after it has ended", query(queries::CLAIMED_AFTER_STOP).await?),
        (
            "nothing of a paused run is claimed",
            seen.claimed_while_paused.iter().cloned().chain(query(queries::CLAIMED_WHILE_PAUSED).await?).collect(),
        ),
        ("limits of keys and queues held", seen.over_limits.iter().cloned().collect()),
        ("a signal was consumed at most once, and none was lost", queries::signals(&connection, asked).await?),
        ("a tick started one run", query(queries::TICKS).await?),
        ("workers do their own tenant's steps only", query(queries::FOREIGN_TENANTS).await?),
        ("only leases whose heartbeat was overdue expired", query(queries::EARLY_EXPIRY).await?),
        ("no clock but the database's was asked", query(queries::FOREIGN_CLOCKS).await?),
        ("a checkpoint is computed until it is saved, and then no more", effects::checkpoints(&facts)),
        ("one holder at a time has a lock, and tokens only grow", effects::locks(&facts)),
        (
            "what a failed saga had done was undone, once, from the last to the first",
            query(queries::COMPENSATIONS).await?,
        ),
        ("nothing that needs approval begins without it", query(queries::UNAPPROVED).await?),
        ("a budget is not overdrawn, and each step is paid once", queries::budgets(&connection).await?),
        ("the last progress is stored", query(queries::LOST_PROGRESS).await?),
    ];
    let ticks = connection.query_one("select count(*) from longhaul.schedule_tick", &[]).await?.get(0);
    let outcomes = "select coalesce(string_agg(format('%s %s', n, outcome), ', '), 'none') from (select outcome, count(*) n from longhaul.attempt group by 1 order by 1) o";
    Ok(Verdict {
        runs: facts.runs.len(),
        steps: facts.steps.len(),
        begins: facts.lines.iter().filter(|line| line.deed == Deed::Begin).count(),
        outcomes: query(outcomes).await?.concat(),
        signals: asked.signals.len(),
        ticks,
        locks: effects::acquisitions(&facts),
        looks: seen.looks,
        checks,
    })
}
