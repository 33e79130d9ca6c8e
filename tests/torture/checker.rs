//! The checker: did each guarantee hold? It compares the handlers' record with the database.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fmt,
    path::Path,
};

use longhaul::Client;
use uuid::Uuid;

use crate::record::{self, Line, What};

/// What was found.
pub struct Verdict {
    runs: usize,
    steps: usize,
    begins: usize,
    outcomes: String,
    /// Each guarantee, with its violations.
    checks: Vec<(&'static str, Vec<String>)>,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|(_, violations)| violations.is_empty())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} steps, {} attempts begun; not completing: {}",
            self.runs, self.steps, self.begins, self.outcomes
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
    predecessors: Vec<i32>,
}

type Key = (Uuid, i32);

pub async fn check(
    client: &Client,
    records: &Path,
    accepted: &[Uuid],
    in_time: bool,
) -> Result<Verdict, Box<dyn Error>> {
    let lines = record::read_all(records)?;
    let connection = client.database().connection().await?;
    let states: HashMap<Uuid, String> = connection
        .query("select id, state::text from longhaul.run", &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let steps: Vec<Step> = connection
        .query(
            "select s.run_id, s.seq, s.outcome::text, s.attempt, (s.output ->> 'token')::int,
                    array(select p.seq from longhaul.flow_step p where p.flow_id = r.flow_id and s.seq = any (p.successors))
             from longhaul.step s join longhaul.run r on r.id = s.run_id",
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
            predecessors: row.get(5),
        })
        .collect();
    let outcomes: String = connection
        .query_one("select coalesce(string_agg(format('%s %s', n, outcome), ', '), 'none') from (select outcome, count(*) n from longhaul.attempt group by 1 order by 1) o", &[])
        .await?
        .get(0);
    let leftovers: i64 = connection
        .query_one("select (select count(*) from longhaul.task) + (select count(*) from longhaul.lease) + (select count(*) from longhaul.timer)", &[])
        .await?
        .get(0);
    // Claims that the database knows: those that completed, and those whose attempts ended otherwise.
    let known: HashSet<(Uuid, i32, i32)> = connection
        .query("select run_id, seq, attempt from longhaul.attempt union all select run_id, seq, attempt from longhaul.step where outcome = 'completed'", &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let doubled: i64 = connection
        .query_one("select count(*) from longhaul.attempt a join longhaul.step s using (run_id, seq, attempt) where s.outcome = 'completed'", &[])
        .await?
        .get(0);

    let mut rooms = client.database().calls().await?.room_violations().await?;
    if leftovers > 0 {
        rooms.push(format!("{leftovers} rows are left in the rooms"));
    }
    let checks = vec![
        ("every run ended in time", if in_time { Vec::new() } else { vec!["some runs are still live".into()] }),
        ("no accepted run is lost, and all completed", lost(accepted, &states)),
        ("a live step is in exactly one room, and at the end none is", rooms),
        (
            "each attempt has one outcome",
            if doubled == 0 { Vec::new() } else { vec![format!("{doubled} attempts completed and ended otherwise")] },
        ),
        ("each attempt was begun at most once, and was claimed", begun_twice(&lines, &known)),
        ("the stored output is the completing attempt's", foreign_outputs(&steps)),
        ("a completed step is not begun again", begun_after_completion(&lines, &steps)),
        ("a step begins after its predecessors have ended", out_of_order(&lines, &steps)),
    ];
    let begins = lines.iter().filter(|line| line.what == What::Begin).count();
    Ok(Verdict { runs: states.len(), steps: steps.len(), begins, outcomes, checks })
}

fn lost(accepted: &[Uuid], states: &HashMap<Uuid, String>) -> Vec<String> {
    let missing = accepted
        .iter()
        .filter(|id| !states.contains_key(*id))
        .map(|id| format!("run {id} was accepted and is not there"));
    let unfinished =
        states.iter().filter(|(_, state)| *state != "completed").map(|(id, state)| format!("run {id} is {state}"));
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
        .filter(|step| step.attempt.is_none() || step.attempt != step.made_by)
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
