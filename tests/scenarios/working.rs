//! The driver as worker, and what happens at the same time.

use futures::future::join_all;
use serde_json::Value;

use crate::{
    driver::{Checked, Driver, finding, number, refused},
    scenario::Act,
    scheduling::sqlstate,
    server::{Answer, Rows, ask},
    statements,
    worker::{self, Held, Way, columns, garbled, jsons, quoted, way},
};

/// Outcome, whether another attempt may follow, and after how long.
type End = (&'static str, bool, Option<i64>);

/// A call that ends attempts.
struct Ending {
    name: &'static str,
    sql: String,
    held: Vec<Held>,
}

impl Driver<'_> {
    fn claiming(&self, most: usize, reversed: bool) -> String {
        let queues = if reversed { "'q1', 'default'" } else { "'default', 'q1'" };
        format!(
            "select run_id, seq, attempt, failures, flow_id, def from longhaul.claim({}, array[{queues}], array[{most}, {most}])",
            self.worker
        )
    }

    pub async fn claim(&mut self, most: usize, open: bool, reversed: bool) -> Checked {
        self.commit_claim().await?;
        let sql = self.claiming(most, reversed);
        let client = if open { self.connections.slow_worker.clone() } else { self.connections.worker.clone() };
        if open {
            let _ = self.noted("slow worker", &client, "begin").await;
            self.is_claim_open = true;
        }
        match self.noted("worker", &client, &sql).await {
            Ok(rows) if open => self.claimed_open = leases(&rows),
            Ok(rows) => self.held.extend(leases(&rows)),
            Err(refusal) => return refused("claim", &refusal, false),
        }
        Ok(())
    }

    pub async fn commit_claim(&mut self) -> Checked {
        if self.is_claim_open {
            let client = self.connections.slow_worker.clone();
            self.is_claim_open = false;
            if let Err(refusal) = self.noted("slow worker", &client, "commit").await {
                return refused("the commit of a claim", &refusal, false);
            }
            self.held.append(&mut self.claimed_open);
        }
        Ok(())
    }

    /// Ends some of the attempts that the worker holds.
    pub async fn finish(&mut self, from: usize, count: usize, patient: bool) -> Checked {
        self.commit_claim().await?;
        for ending in self.endings(from, count, patient).await {
            let client = self.connections.worker.clone();
            let answer = self.noted("worker", &client, &ending.sql).await;
            self.ended(ending, answer)?;
        }
        Ok(())
    }

    async fn endings(&mut self, from: usize, count: usize, patient: bool) -> Vec<Ending> {
        let mut chosen = Vec::new();
        let from = if self.held.is_empty() { 0 } else { from % self.held.len() };
        self.held.rotate_left(from);
        for held in std::mem::take(&mut self.held) {
            let way = if chosen.len() < count { self.way_of(&held, patient).await } else { Way::Keep };
            match way {
                Way::Keep => self.held.push(held),
                way => chosen.push((held, way)),
            }
        }
        let (mut completed, mut failed, mut suspended) = (Vec::new(), Vec::new(), Vec::new());
        for (held, way) in chosen {
            match way {
                Way::Complete(output) => completed.push((held, output)),
                Way::End { outcome, retryable, delay_ms } => failed.push((held, (outcome, retryable, delay_ms))),
                Way::Suspend(waits) => suspended.push((held, waits)),
                Way::Keep => {}
            }
        }
        let mut endings = Vec::new();
        endings.extend(self.ending("complete", completed, |outputs| jsons(&outputs)));
        endings.extend(self.ending("suspend", suspended, |waits| jsons(&waits)));
        endings.extend(self.ending("end_attempts", failed, |ends| {
            let list = |part: &dyn Fn(&End) -> String| ends.iter().map(part).collect::<Vec<_>>().join(",");
            format!(
                "array[{}]::longhaul.attempt_outcome[], array[{}]::jsonb[], array[{}]::boolean[], array[{}]::bigint[]",
                list(&|end| quoted(end.0)),
                list(&|_| "'{\"message\": \"no\"}'".into()),
                list(&|end| end.1.to_string()),
                list(&|end| end.2.map_or("null".into(), |ms| ms.to_string()))
            )
        }));
        endings
    }

    fn ending<T>(
        &self,
        name: &'static str,
        items: Vec<(Held, T)>,
        values: impl Fn(Vec<T>) -> String,
    ) -> Option<Ending> {
        if items.is_empty() {
            return None;
        }
        let (held, given): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let skip = if self.connections.skips_busy { ", p_skip_busy => true" } else { "" };
        let sql = format!(
            "select run_id, seq, attempt, refusal from longhaul.{name}({}, {}, {}{skip})",
            self.worker,
            columns(&held),
            values(given)
        );
        Some(Ending { name, sql, held })
    }

    async fn way_of(&mut self, held: &Held, patient: bool) -> Way {
        let is_script = self.steps.get(&(held.flow, held.def)).is_some_and(|(_, with)| with["do"] == "script");
        let mut history = Vec::new();
        if is_script {
            let sql = format!("select path, answer is not null from longhaul.history('{}', {})", held.run, held.seq);
            let rows = ask(&self.connections.worker, &sql).await.unwrap_or_default();
            history.extend(rows.iter().map(|row| (row[0].clone().unwrap_or_default(), row[1].as_deref() == Some("t"))));
        }
        way(held, &self.steps, &history, patient)
    }

    fn ended(&mut self, ending: Ending, answer: Answer) -> Checked {
        match answer {
            Ok(rows) => {
                // Whoever was busy is asked again later.
                for row in rows.iter().filter(|row| row[3].as_deref() == Some("busy")) {
                    let same = |held: &&Held| {
                        Some(&*held.run) == row[0].as_deref() && Some(held.seq) == row[1].as_deref().map(number)
                    };
                    self.held.extend(ending.held.iter().find(same).cloned());
                }
                match rows
                    .iter()
                    .find(|row| row[3].as_deref().is_some_and(|why| why.starts_with("already_") || why == "not_found"))
                {
                    Some(row) if !self.retained => finding(
                        format!("{} is refused: {}", ending.name, row[3].as_deref().unwrap_or_default()),
                        ending.sql,
                    ),
                    _ => Ok(()),
                }
            }
            Err(refusal) if refusal.code == "55P03" && ending.held.len() == 1 && !self.connections.skips_busy => {
                self.held.extend(ending.held);
                Ok(())
            }
            Err(refusal) if refusal.code == "LH005" => Ok(()),
            Err(refusal) if refusal.code.starts_with("LH") => {
                finding(format!("{} fails with {}", ending.name, refusal.code), refusal.message)
            }
            Err(refusal) => refused(ending.name, &refusal, false),
        }
    }

    pub async fn die(&mut self) -> Checked {
        self.commit_claim().await?;
        let sql = format!(
            "update longhaul.worker set heartbeat_at = least(heartbeat_at, longhaul.clock() - interval '1 second'),
             expires_at = longhaul.clock() - interval '1 second' where id = {}",
            self.worker
        );
        self.server.admin(&sql).await;
        self.log.push(format!("/* the worker dies */ {sql};"));
        self.held.clear();
        self.register().await
    }

    pub async fn garble(&mut self, what: usize) -> Checked {
        self.commit_claim().await?;
        let sql = garbled(what, &self.worker, self.held.first());
        let client = self.connections.worker.clone();
        let answer = self.noted("worker", &client, &sql).await;
        if let Some(first) = self.held.first() {
            // Whatever it was taken for, the lease may be gone by it.
            let sql = format!(
                "select from longhaul.lease l where (l.run_id, l.seq, l.attempt) = ('{}', {}, {})",
                first.run, first.seq, first.attempt
            );
            if self.server.admin(&sql).await.is_empty() {
                self.held.remove(0);
            }
        }
        match answer {
            Ok(_) => {
                self.garbled = true;
                Ok(())
            }
            Err(refusal) if ["22", "23"].contains(&&refusal.code[..2]) => Ok(()),
            // It may name a run that a caller keeps.
            Err(refusal) if refusal.code == "55P03" && !self.is_quiet() => Ok(()),
            Err(refusal) => refused("a garbled call", &refusal, false),
        }
    }

    /// Several acts at the same time.
    pub async fn together(&mut self, acts: &[Act]) -> Checked {
        self.commit_claim().await?;
        let mut plans: Vec<Vec<String>> = Vec::new();
        let mut ends: Vec<Option<Ending>> = Vec::new();
        for act in acts.iter().take(self.connections.extra.len()) {
            let mut ending = None;
            let plan = match act {
                Act::Claim { most, reversed, .. } => vec![self.claiming(*most, *reversed)],
                Act::Chores => vec!["select chore_name, items, failure from longhaul.run_chore()".to_owned(); 6],
                Act::Finish { from, count } => {
                    let mut endings = self.endings(*from, *count, true).await;
                    ending = endings.pop();
                    self.held.extend(endings.into_iter().flat_map(|other| other.held));
                    ending.iter().map(|e| e.sql.clone()).collect()
                }
                _ => statements::call(act, &self.ids).into_iter().map(|(_, call)| call.sql).collect(),
            };
            plans.push(plan);
            ends.push(ending);
        }
        let clients = self.connections.extra.clone();
        let done = join_all(plans.iter().zip(&clients).map(|(plan, client)| async move {
            let mut answers = Vec::new();
            for sql in plan {
                answers.push(ask(client, sql).await);
            }
            answers
        }))
        .await;
        for ((answers, ending), (plan, act)) in done.into_iter().zip(ends).zip(plans.iter().zip(acts)) {
            for (answer, sql) in answers.iter().zip(plan) {
                self.log.push(format!("/* at the same time */ {sql};\n    -- {:?}", answer.as_ref().map(Vec::len)));
            }
            let Some(answer) = answers.into_iter().next_back() else { continue };
            match (ending, act) {
                (Some(ending), _) => self.ended(ending, answer)?,
                (None, Act::Claim { .. }) => match answer {
                    Ok(rows) => self.held.extend(leases(&rows)),
                    Err(refusal) => refused("claim", &refusal, false)?,
                },
                (None, Act::Chores) => {
                    if let Some(failure) = answer.ok().and_then(|rows| rows[0][2].clone()) {
                        let state = sqlstate(&failure).to_owned();
                        finding(format!("a chore beside other calls fails with {state}"), failure)?;
                    }
                }
                _ => {
                    // Somebody's open transaction may hold what it wants.
                    if let Err(refusal) = answer
                        && (refusal.code != "55P03" || self.is_quiet())
                    {
                        refused("a call beside others", &refusal, false)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn leases(rows: &Rows) -> Vec<Held> {
    let int = |text: &Option<String>| number(text.as_deref().unwrap_or_default());
    rows.iter()
        .map(|row| Held {
            run: row[0].clone().unwrap_or_default(),
            seq: int(&row[1]),
            attempt: int(&row[2]),
            failures: int(&row[3]),
            flow: int(&row[4]),
            def: int(&row[5]),
        })
        .collect()
}

/// What a question of a run is answered with.
pub fn choice(choices: &str) -> String {
    let choices: Value = serde_json::from_str(choices).unwrap_or_default();
    worker::quoted(choices[0].as_str().unwrap_or("approve"))
}
