//! The checks of `doctor`: each names what is wrong, who or what it is, and since when.

use std::{collections::BTreeMap, fmt::Display};

use chrono::{DateTime, Utc};
use indicatif::HumanBytes;
use longhaul_schema::{
    calls::{Calls, Executor, HorizonPin},
    connect::Connection,
};
use serde_json::json;

use super::{
    Failure,
    doctor::{Check, Verdict},
    output::{plural, time},
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
        sizes(calls).await?,
        attention(calls).await?,
    ])
}

fn warn(name: &'static str, findings: &[String], good: impl Display) -> Check {
    match findings {
        [] => Check::new(name, Verdict::Good, good.to_string()),
        _ => Check::new(name, Verdict::Warning, some(findings)).with(json!({ "count": findings.len() })),
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
        None if standby => Check::new(
            "rooms",
            Verdict::Good,
            "every live step is in exactly one room (a standby: floors are not looked at)",
        ),
        None => Check::new("rooms", Verdict::Good, "every live step is in exactly one room"),
        Some(first) => {
            let finding = format!("{}, such as {first}", plural(violations.len(), "violation"));
            Check::new("rooms", Verdict::Bad, finding).with(json!({ "count": violations.len() }))
        }
    })
}

async fn clock(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    Ok(match calls.setting("clock_offset_ms").await? {
        0 => Check::new("clock", Verdict::Good, "the server's own"),
        offset => Check::new("clock", Verdict::Bad, format!("moved by {offset} ms; that is for tests only")),
    })
}

async fn workers(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let figures = calls.figures().await?;
    Ok(Check::new(
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
    )
    .with(json!(figures)))
}

async fn chores(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    Ok(match calls.overdue_chores().await?.as_slice() {
        [] => Check::new("chores", Verdict::Good, "all done in time"),
        late => {
            let finding = format!("overdue or failing: {}; is a scheduler running?", late.join(", "));
            Check::new("chores", Verdict::Warning, finding).with(json!({ "late": late }))
        }
    })
}

async fn overdue(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let mut kinds = BTreeMap::<&str, usize>::new();
    let late = calls.overdue(1000).await?;
    let findings: Vec<String> = late
        .iter()
        .filter(|late| late.kind != "chore")
        .map(|late| {
            *kinds.entry(&late.kind).or_default() += 1;
            let run = late.run_id.map(|run| format!(" of run {run}")).unwrap_or_default();
            let step = late.seq.map(|seq| format!(" step {seq}")).unwrap_or_default();
            let item = late.item.as_deref().map(|item| format!(" ({item})")).unwrap_or_default();
            format!("{}{item}{run}{step}: due at {}, and {}", late.kind, time(late.since), late.reason)
        })
        .collect();
    let check = warn("overdue", &findings, "nothing whose time has come is left undone");
    Ok(check.with(json!({ "count": findings.len(), "by_kind": kinds })))
}

async fn handlers(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    Ok(match calls.unserved_lanes().await?.as_slice() {
        [] => Check::new("handlers", Verdict::Good, "every ready step has a worker that knows its handler"),
        lanes => Check::new("handlers", Verdict::Warning, format!("no worker takes {}", lanes.join(", ")))
            .with(json!({ "count": lanes.len() })),
    })
}

async fn snapshots(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let pins = calls.horizon_pins().await?;
    let long: Vec<&HorizonPin> = pins.iter().filter(|pin| is_long(pin)).collect();
    if long.is_empty() && !calls.sees_all_sessions().await? {
        let finding = "this user is not shown the sessions of others: grant pg_read_all_stats to it";
        return Ok(Check::new("snapshots", Verdict::Warning, finding));
    }
    let findings: Vec<String> = long.iter().map(|pin| described(pin)).collect();
    let mut check = warn("snapshots", &findings, "nobody keeps dead rows from being removed");
    if check.verdict == Verdict::Warning {
        check.finding.push_str(" (dead rows cannot be removed meanwhile)");
    }
    let figures: Vec<_> = long
        .iter()
        .map(|pin| {
            json!({ "kind": pin.kind, "name": pin.name, "pid": pin.pid, "user": pin.username, "state": pin.state, "seconds": pin.seconds,
                    "transactions": pin.transactions, "remedy": pin.remedy })
        })
        .collect();
    Ok(check.with(json!({ "count": figures.len(), "pins": figures })))
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
    format!("{} {}: {state} {since}{query}; what ends it: {}", pin.kind, pin.name, pin.remedy)
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
        return Ok(Check::new("vacuum", Verdict::Good, "not looked at: a standby does not count dead rows"));
    }
    let when = |at: Option<DateTime<Utc>>| at.map_or("never".into(), time);
    let swollen = calls.swollen_tables().await?;
    let lag = calls.vacuum_lag().await?;
    let findings: Vec<String> = swollen
        .iter()
        .map(|table| {
            format!(
                "{} has {} dead rows beside {} live ones, last vacuumed: {}",
                table.table,
                table.dead,
                table.live,
                when(table.vacuumed_at)
            )
        })
        .collect();
    let check = warn("vacuum", &findings, "autovacuum keeps up");
    let figures: Vec<_> = lag
        .iter()
        .map(|t| json!({ "table": t.table, "dead_rows": t.dead, "due_at_dead_rows": t.due, "vacuumed_at": t.vacuumed_at }))
        .collect();
    Ok(check.with(json!({ "count": findings.len(), "behind": figures })))
}

async fn sizes(calls: &Calls<impl Executor>) -> Result<Check, Failure> {
    let tables = calls.table_sizes().await?;
    let total: i64 = tables.iter().map(|table| table.bytes).sum();
    let largest: Vec<String> = tables
        .iter()
        .take(3)
        .map(|table| format!("{} {}", table.table, HumanBytes(table.bytes.unsigned_abs())))
        .collect();
    let finding = format!("{} in all; {}", HumanBytes(total.unsigned_abs()), largest.join(", "));
    let bytes: BTreeMap<&str, i64> = tables.iter().map(|table| (table.table.as_str(), table.bytes)).collect();
    Ok(Check::new("sizes", Verdict::Good, finding).with(json!({ "bytes": total, "tables": bytes })))
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
        let count = plural(usize::try_from(dormant.dead_letters).unwrap_or_default(), "dead letter");
        findings.push(format!("{count}{more}: longhaul dead list"));
    }
    if !dormant.paused_queues.is_empty() {
        findings.push(format!("paused queues: {}", some(&dormant.paused_queues)));
    }
    if !dormant.failed_schedules.is_empty() {
        findings.push(format!("schedules with ticks that failed: {}", some(&dormant.failed_schedules)));
    }
    let check = warn("attention", &findings, "no dead letters, paused queues, failed ticks, or items set aside");
    Ok(check.with(json!({
        "dead_letters": dormant.dead_letters, "set_aside": dormant.set_aside, "paused_queues": dormant.paused_queues,
        "failed_schedules": dormant.failed_schedules,
    })))
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
            pid: None,
            username: None,
            remedy: "select pg_drop_replication_slot('standby_1')".into(),
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
            "replication slot standby_1: inactive for 35549 transactions; what ends it: select pg_drop_replication_slot('standby_1')"
        );
    }

    #[test]
    fn many_findings_are_some_and_a_number() {
        let findings: Vec<String> = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(some(&findings), "1; 2; 3; 4; 5; and 2 more");
        assert_eq!(some(&findings[..2]), "1; 2");
    }
}
