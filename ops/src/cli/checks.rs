//! The checks of `doctor`: each names what is wrong, who or what it is, and since when.

use std::fmt::Display;

use longhaul_schema::{
    calls::{Calls, Executor, HorizonPin},
    connect::Connection,
};

use super::{
    Failure,
    doctor::{Check, Verdict},
};

/// A session or a prepared transaction that is open for longer is named.
const LONG_OPEN_SECONDS: f64 = 300.0;

/// A slot or a standby that holds on to a transaction so many transactions ago is named.
const LONG_HELD_TRANSACTIONS: i64 = 100_000;

/// An inactive slot is named sooner: nobody moves it.
const LONG_LEFT_TRANSACTIONS: i64 = 1_000;

/// A call that waits for a lock for longer is named.
const LONG_BLOCKED_SECONDS: f64 = 5.0;

/// How many examples a finding has.
const EXAMPLES: usize = 5;

/// All that can be asked of an installation that answers.
pub(super) async fn all(calls: &Calls<Connection>) -> Result<Vec<Check>, Failure> {
    let standby = calls.is_standby().await?;
    Ok(vec![
        rooms(calls, standby).await?,
        clock(calls).await?,
        workers(calls).await?,
        chores(calls).await?,
        overdue(calls).await?,
        handlers(calls).await?,
        snapshots(calls).await?,
        locks(calls).await?,
        vacuum(calls, standby).await?,
        partitions(calls).await?,
        attention(calls).await?,
    ])
}

fn warn(name: &'static str, findings: &[String], good: impl Display) -> Check {
    match findings {
        [] => (name, Verdict::Good, good.to_string()),
        _ => (name, Verdict::Warning, some(findings)),
    }
}

/// The first findings, and how many more there are.
fn some(findings: &[String]) -> String {
    let more = findings.len().saturating_sub(EXAMPLES);
    let first = findings[..findings.len() - more].join("; ");
    if more > 0 { format!("{first}; and {more} more") } else { first }
}

async fn rooms(calls: &Calls<impl Executor>, standby: bool) -> Result<Check, Failure> {
    let violations = calls.room_violations().await?;
    Ok(match violations.first() {
        None if standby => (
            "rooms",
            Verdict::Good,
            "every live step is in exactly one room (a standby: floors are not looked at)".into(),
        ),
        None => ("rooms", Verdict::Good, "every live step is in exactly one room".into()),
        Some(first) => ("rooms", Verdict::Bad, format!("{} violations, such as {first}", violations.len())),
    })
}

async fn clock(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    Ok(match calls.setting("clock_offset_ms").await? {
        0 => ("clock", Verdict::Good, "the server's own".into()),
        offset => ("clock", Verdict::Bad, format!("moved by {offset} ms; that is for tests only")),
    })
}

async fn workers(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let figures = calls.figures().await?;
    Ok((
        "workers",
        if figures.workers == 0 { Verdict::Warning } else { Verdict::Good },
        format!(
            "{} alive; steps: {} ready, {} running, {} sleeping, {} waiting, {} paused, {} queued",
            figures.workers,
            figures.ready,
            figures.running,
            figures.sleeping,
            figures.waiting,
            figures.paused,
            figures.queued
        ),
    ))
}

async fn chores(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    Ok(match calls.overdue_chores().await?.as_slice() {
        [] => ("chores", Verdict::Good, "all done in time".into()),
        late => {
            ("chores", Verdict::Warning, format!("overdue or failing: {}; is a scheduler running?", late.join(", ")))
        }
    })
}

async fn overdue(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let findings: Vec<String> = calls
        .overdue(1000)
        .await?
        .iter()
        .filter(|late| late.kind != "chore")
        .map(|late| {
            let run = late.run_id.map(|run| format!(" of run {run}")).unwrap_or_default();
            let step = late.seq.map(|seq| format!(" step {seq}")).unwrap_or_default();
            let item = late.item.as_deref().map(|item| format!(" ({item})")).unwrap_or_default();
            format!("{}{item}{run}{step}: due at {}, and {}", late.kind, late.since.format("%F %T UTC"), late.reason)
        })
        .collect();
    Ok(warn("overdue", &findings, "nothing whose time has come is left undone"))
}

async fn handlers(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    Ok(match calls.unserved_lanes().await?.as_slice() {
        [] => ("handlers", Verdict::Good, "every ready step has a worker that knows its handler".into()),
        lanes => ("handlers", Verdict::Warning, format!("no worker takes {}", lanes.join(", "))),
    })
}

async fn snapshots(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let findings: Vec<String> = calls.horizon_pins().await?.iter().filter(|pin| is_long(pin)).map(described).collect();
    if findings.is_empty() && !calls.sees_all_sessions().await? {
        let finding = "this user is not shown the sessions of others: grant pg_read_all_stats to it";
        return Ok(("snapshots", Verdict::Warning, finding.into()));
    }
    let mut check = warn("snapshots", &findings, "nobody keeps dead rows from being removed");
    if check.1 == Verdict::Warning {
        check.2.push_str(" (dead rows cannot be removed meanwhile)");
    }
    Ok(check)
}

fn is_long(pin: &HorizonPin) -> bool {
    let held = pin.transactions.unwrap_or_default();
    pin.seconds.is_some_and(|seconds| seconds > LONG_OPEN_SECONDS)
        || pin.seconds.is_none() && held > LONG_HELD_TRANSACTIONS
        || pin.state.as_deref() == Some("inactive") && held > LONG_LEFT_TRANSACTIONS
}

fn described(pin: &HorizonPin) -> String {
    let state = pin.state.as_deref().unwrap_or("open");
    let since = match (pin.seconds, pin.transactions) {
        (Some(seconds), _) => format!("for {seconds:.0} s"),
        (None, transactions) => format!("for {} transactions", transactions.unwrap_or_default()),
    };
    let query = match pin.query.as_deref().map(str::trim) {
        None | Some("") => String::new(),
        Some(query) => format!(", last: {}", one_line(query)),
    };
    format!("{} {}: {state} {since}{query}", pin.kind, pin.name)
}

fn one_line(query: &str) -> String {
    let words: Vec<&str> = query.split_whitespace().collect();
    words.join(" ").chars().take(80).collect()
}

async fn locks(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let findings: Vec<String> = calls
        .blocked_calls()
        .await?
        .iter()
        .filter(|call| call.seconds > LONG_BLOCKED_SECONDS)
        .map(|call| {
            format!(
                "{} waits for {:.0} s ({}); held by {}",
                call.pid,
                call.seconds,
                one_line(&call.query),
                call.held_by
            )
        })
        .collect();
    Ok(warn("locks", &findings, "no call waits for a lock for long"))
}

async fn vacuum(calls: &Calls<impl Executor>, standby: bool) -> Result<Check, Failure> {
    if standby {
        return Ok(("vacuum", Verdict::Good, "not looked at: a standby does not count dead rows".into()));
    }
    let findings: Vec<String> = calls
        .swollen_tables()
        .await?
        .iter()
        .map(|table| {
            let when = table.vacuumed_at.map_or("never".into(), |at| at.format("%F %T UTC").to_string());
            format!(
                "{} has {} dead rows beside {} live ones, last vacuumed: {when}",
                table.table, table.dead, table.live
            )
        })
        .collect();
    Ok(warn("vacuum", &findings, "autovacuum keeps up"))
}

async fn partitions(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let findings = calls.partition_troubles().await?;
    Ok(warn("partitions", &findings, "made ahead of their time, and nothing stands outside them"))
}

async fn attention(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let dormant = calls.dormant().await?;
    let mut findings = Vec::new();
    if !dormant.set_aside.is_empty() {
        findings.push(format!("set aside: {}", some(&dormant.set_aside)));
    }
    if dormant.dead_letters > 0 {
        let more = if dormant.dead_letters == 10_000 { " or more" } else { "" };
        findings.push(format!("{}{more} dead letters: longhaul dead list", dormant.dead_letters));
    }
    if !dormant.paused_queues.is_empty() {
        findings.push(format!("paused queues: {}", some(&dormant.paused_queues)));
    }
    if !dormant.failed_schedules.is_empty() {
        findings.push(format!("schedules with ticks that failed: {}", some(&dormant.failed_schedules)));
    }
    Ok(warn("attention", &findings, "no dead letters, paused queues, failed ticks, or items set aside"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(state: &str, seconds: Option<f64>, transactions: i64) -> HorizonPin {
        HorizonPin {
            kind: "replication slot".into(),
            name: "standby_1".into(),
            state: Some(state.into()),
            seconds,
            transactions: Some(transactions),
            query: None,
        }
    }

    #[test]
    fn what_pins_the_horizon_is_named_when_it_is_old() {
        assert!(is_long(&pin("idle in transaction", Some(301.0), 1)));
        assert!(!is_long(&pin("active", Some(1.0), 1_000_000)));
        assert!(is_long(&pin("inactive", None, 35_549)));
        assert!(!is_long(&pin("active", None, 35_549)));
        assert_eq!(
            described(&pin("inactive", None, 35_549)),
            "replication slot standby_1: inactive for 35549 transactions"
        );
    }

    #[test]
    fn many_findings_are_some_and_a_number() {
        let findings: Vec<String> = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(some(&findings), "1; 2; 3; 4; 5; and 2 more");
        assert_eq!(some(&findings[..2]), "1; 2");
    }
}
