//! The checker: did each guarantee hold? It compares the handlers' record with the database.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fmt,
    path::Path,
};

use longhaul::{Client, connect::Connection};
use uuid::Uuid;

use crate::{
    load::Asked,
    record::{self, Line, What},
    watch::Seen,
};

/// What was found.
pub struct Verdict {
    runs: usize,
    steps: usize,
    begins: usize,
    outcomes: String,
    signals: usize,
    ticks: i64,
    looks: usize,
    /// Each guarantee, with its violations.
    checks: Vec<(&'static str, Vec<String>)>,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|(_, violations)| violations.is_empty())
    }
}

impl Verdict {
    /// The checks that found something.
    pub fn violated(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|(_, violations)| !violations.is_empty()).map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} steps, {} attempts begun; not completing: {}; {} signals, {} ticks, {} looks at limits and pauses",
            self.runs, self.steps, self.begins, self.outcomes, self.signals, self.ticks, self.looks
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

/// A step as the database has it at the end.
struct Step {
    run: Uuid,
    seq: i32,
    outcome: Option<String>,
    attempt: Option<i32>,
    made_by: Option<i32>,
    /// Done by a worker, and not by the database itself.
    handled: bool,
    predecessors: Vec<i32>,
}

type Key = (Uuid, i32);

pub async fn check(
    client: &Client,
    records: &Path,
    asked: &Asked,
    seen: &Seen,
    in_time: bool,
) -> Result<Verdict, Box<dyn Error>> {
    let mut lines = record::read_all(records)?;
    let connection = client.database().connection().await?;
    let states: HashMap<Uuid, String> = connection
        .query("select id, state::text from longhaul.run", &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    // Retention has taken the brief runs; nobody was promised that they stay.
    let accepted: HashSet<&Uuid> = asked.accepted.iter().collect();
    lines.retain(|line| states.contains_key(&line.run) || accepted.contains(&line.run));
    let steps: Vec<Step> = connection
        .query(
            "select s.run_id, s.seq, s.outcome::text, s.attempt, (s.output ->> 'token')::int,
                    f.kind = 'handler' and (f.each is null or s.def is not null),
                    array(select p.seq from longhaul.flow_step p
                          where p.flow_id = r.flow_id and s.seq = any (p.successors) and p.kind = 'handler' and p.each is null)
             from longhaul.step s join longhaul.run r on r.id = s.run_id
             join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, s.seq)",
            &[],
        )
        .await?
        .iter()
        .map(|row| Step {
            run: row.get(0),
            seq: row.get(1),
            outcome: row.get(2),
            attempt: row.get(3),
            made_by: row.get(4),
            handled: row.get(5),
            predecessors: row.get(6),
        })
        .collect();
    let outcomes: String = connection
        .query_one("select coalesce(string_agg(format('%s %s', n, outcome), ', '), 'none') from (select outcome, count(*) n from longhaul.attempt group by 1 order by 1) o", &[])
        .await?
        .get(0);
    let leftovers = rows(&connection, LEFTOVERS).await?;
    // Claims that the database knows: those that completed, and those whose attempts ended otherwise.
    let known: HashSet<(Uuid, i32, i32)> = connection
        .query("select run_id, seq, attempt from longhaul.attempt union all select run_id, seq, attempt from longhaul.step where outcome = 'completed' and attempt is not null", &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let doubled: i64 = connection
        .query_one("select count(*) from longhaul.attempt a join longhaul.step s using (run_id, seq, attempt) where s.outcome = 'completed'", &[])
        .await?
        .get(0);

    let mut rooms = client.database().calls().await?.room_violations().await?;
    rooms.extend(leftovers);
    let checks = vec![
        ("every run ended in time", if in_time { Vec::new() } else { rows(&connection, STILL_LIVE).await? }),
        ("no accepted run is lost, and all completed but those that were stopped", lost(asked, &states)),
        ("a live step is in exactly one room, and at the end none is", rooms),
        (
            "each attempt has one outcome",
            if doubled == 0 { Vec::new() } else { vec![format!("{doubled} attempts completed and ended otherwise")] },
        ),
        ("each attempt was begun at most once, and was claimed", begun_twice(&lines, &known)),
        ("the stored output is the completing attempt's", foreign_outputs(&steps)),
        ("a completed step is not begun again", begun_after_completion(&lines, &steps)),
        ("a step begins after its predecessors have ended", out_of_order(&lines, &steps)),
        ("nothing of a stopped run is claimed after it has ended", rows(&connection, CLAIMED_AFTER_STOP).await?),
        ("nothing of a paused run is claimed", seen.claimed_while_paused.iter().cloned().collect()),
        ("limits of keys and queues held", seen.over_limits.iter().cloned().collect()),
        ("a signal was consumed at most once, and none was lost", signals(&connection, asked).await?),
        ("a tick started one run", rows(&connection, TICKS).await?),
        ("workers do their own tenant's steps only", rows(&connection, FOREIGN_TENANTS).await?),
        ("only leases whose heartbeat was overdue expired", rows(&connection, EARLY_EXPIRY).await?),
    ];
    let ticks = connection.query_one("select count(*) from longhaul.schedule_tick", &[]).await?.get(0);
    let begins = lines.iter().filter(|line| line.what == What::Begin).count();
    Ok(Verdict {
        runs: states.len(),
        steps: steps.len(),
        begins,
        outcomes,
        signals: asked.signals.len(),
        ticks,
        looks: seen.looks,
        checks,
    })
}

/// Runs that are still live, and the workers that might have done them.
const STILL_LIVE: &str = "
    select format('run %s of tenant %s is %s', r.id, r.tenant, r.state) from longhaul.run r where r.open_steps > 0
    union all
    select format('worker %s of tenant %s, process %s: %s, its last heartbeat %s ago', w.id, w.tenant, w.pid, w.state, date_trunc('milliseconds', longhaul.clock() - w.heartbeat_at))
    from longhaul.worker w where w.state in ('active', 'draining')";

/// What still stands in a room.
const LEFTOVERS: &str = "
    select format('%s of flow %s, run %s (%s) step %s is left in %s: %s', f.name, w.name, r.id, r.state, x.seq, x.room, x.rest)
    from (select run_id, seq, 'task' as room, to_jsonb(t) - 'run_id' as rest from longhaul.task t
          union all select run_id, seq, 'lease', to_jsonb(t) - 'run_id' from longhaul.lease t
          union all select run_id, seq, 'timer', to_jsonb(t) - 'run_id' from longhaul.timer t
          union all select run_id, seq, 'wait', to_jsonb(t) - 'run_id' from longhaul.wait t
          union all select run_id, seq, 'held', to_jsonb(t) - 'run_id' from longhaul.held t
          union all select run_id, seq, 'queued', to_jsonb(t) - 'run_id' from longhaul.queued t) x
    left join longhaul.run r on r.id = x.run_id left join longhaul.flow w on w.id = r.flow_id
    left join longhaul.step s on s.run_id = x.run_id and s.seq = x.seq
    left join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, s.seq)";

/// Attempts and completions that were claimed after their run had been stopped.
const CLAIMED_AFTER_STOP: &str = "
    select format('run %s step %s was claimed at %s, and the run was stopped at %s', r.id, c.seq, c.at, r.ended_at)
    from longhaul.run r
    join (select run_id, seq, claimed_at as at from longhaul.attempt union all
          select run_id, seq, started_at from longhaul.step where outcome = 'completed') c on c.run_id = r.id
    where r.state = 'cancelled' and c.at > r.ended_at";

/// Ticks that started no run, or several.
const TICKS: &str = "
    select format('tick %s: %s, %s runs', t.tick, t.outcome, n.runs)
    from longhaul.schedule_tick t cross join lateral (
      select count(*) as runs from longhaul.run r
      where r.metadata ->> 'schedule' = 'ticks' and (r.metadata ->> 'tick')::timestamptz = t.tick) n
    where n.runs <> (t.outcome in ('started', 'queued'))::int";

const FOREIGN_TENANTS: &str = "
    select format('run %s of tenant %s: step %s was done by worker %s of tenant %s', r.id, r.tenant, c.seq, w.id, w.tenant)
    from longhaul.run r
    join (select run_id, seq, worker_id from longhaul.attempt union all
          select run_id, seq, worker_id from longhaul.step) c on c.run_id = r.id
    join longhaul.worker w on w.id = c.worker_id
    where w.tenant <> r.tenant";

const EARLY_EXPIRY: &str = "
    select format('run %s step %s attempt %s expired at %s, but worker %s had sent a heartbeat at %s', a.run_id, a.seq, a.attempt, a.ended_at, w.id, w.heartbeat_at)
    from longhaul.attempt a join longhaul.worker w on w.id = a.worker_id
    where a.outcome = 'expired' and a.ended_at < w.heartbeat_at + w.lease_ms * interval '1 millisecond'";

async fn rows(connection: &Connection, sql: &str) -> Result<Vec<String>, longhaul::Error> {
    Ok(connection.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Signals that several waits have consumed, and accepted ones that are neither consumed nor kept.
async fn signals(connection: &Connection, asked: &Asked) -> Result<Vec<String>, longhaul::Error> {
    let mut violations = rows(
        connection,
        "select format('signal %s was consumed %s times', s.output, count(*)) from longhaul.step s
         join longhaul.run r on r.id = s.run_id join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = s.seq
         where f.kind = 'signal' and s.outcome = 'completed' group by s.output having count(*) > 1",
    )
    .await?;
    let there: HashSet<u64> = connection
        .query("select (payload #>> '{}')::bigint from longhaul.signal where topic = 'go'", &[])
        .await?
        .iter()
        .map(|row| row.get::<_, i64>(0).unsigned_abs())
        .collect();
    violations.extend(asked.signals.difference(&there).map(|n| format!("signal {n} was accepted and is not there")));
    Ok(violations)
}

fn lost(asked: &Asked, states: &HashMap<Uuid, String>) -> Vec<String> {
    let missing = asked
        .accepted
        .iter()
        .filter(|id| !states.contains_key(*id))
        .map(|id| format!("run {id} was accepted and is not there"));
    // Children end with their parents.
    let unfinished = states
        .iter()
        .filter(|(id, state)| match state.as_str() {
            "completed" => false,
            "cancelled" => asked.stopped.is_empty() || (!asked.stopped.contains(*id) && asked.accepted.contains(*id)),
            _ => true,
        })
        .map(|(id, state)| format!("run {id} is {state}"));
    missing.chain(unfinished).collect()
}

fn begun_twice(lines: &[Line], known: &HashSet<(Uuid, i32, i32)>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut violations = Vec::new();
    for line in lines.iter().filter(|line| line.what == What::Begin) {
        let attempt = (line.run, line.seq, line.token);
        if !seen.insert(attempt) {
            violations.push(format!("run {} step {} attempt {} was begun twice", line.run, line.seq, line.token));
        }
        if !known.contains(&attempt) {
            violations.push(format!(
                "run {} step {} attempt {} was begun, but the database knows no such claim",
                line.run, line.seq, line.token
            ));
        }
    }
    violations
}

fn foreign_outputs(steps: &[Step]) -> Vec<String> {
    let completed = steps.iter().filter(|step| step.outcome.as_deref() == Some("completed"));
    completed
        .filter(|step| step.handled && (step.attempt.is_none() || step.attempt != step.made_by))
        .map(|step| {
            format!(
                "run {} step {}: completed by attempt {:?}, output of {:?}",
                step.run, step.seq, step.attempt, step.made_by
            )
        })
        .collect()
}

fn begun_after_completion(lines: &[Line], steps: &[Step]) -> Vec<String> {
    let completed: HashMap<Key, i32> =
        steps.iter().filter_map(|step| Some(((step.run, step.seq), step.attempt?))).collect();
    lines
        .iter()
        .filter(|line| {
            line.what == What::Begin
                && completed.get(&(line.run, line.seq)).is_some_and(|attempt| line.token > *attempt)
        })
        .map(|line| {
            format!(
                "run {} step {}: attempt {} was begun although an earlier one completed it",
                line.run, line.seq, line.token
            )
        })
        .collect()
}

fn out_of_order(lines: &[Line], steps: &[Step]) -> Vec<String> {
    let ended: HashMap<(Uuid, i32, i32), u128> = lines
        .iter()
        .filter(|line| line.what == What::End)
        .map(|line| ((line.run, line.seq, line.token), line.at))
        .collect();
    let by_key: HashMap<Key, &Step> = steps.iter().map(|step| ((step.run, step.seq), step)).collect();
    let mut violations = Vec::new();
    for line in lines.iter().filter(|line| line.what == What::Begin) {
        let Some(step) = by_key.get(&(line.run, line.seq)) else { continue };
        for predecessor in &step.predecessors {
            let completing = by_key.get(&(line.run, *predecessor)).and_then(|p| p.attempt).unwrap_or(0);
            match ended.get(&(line.run, *predecessor, completing)) {
                Some(at) if *at <= line.at => {}
                _ => violations
                    .push(format!("run {} step {} began before step {predecessor} had ended", line.run, line.seq)),
            }
        }
    }
    violations
}
