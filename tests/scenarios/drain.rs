//! The end of a scenario: callers commit, the clock goes on, everything that is waited for comes. Then each run must be what the
//! oracle says, and nothing may be left.

use serde_json::Value;

use crate::{
    driver::{Checked, Driver, finding, refused},
    oracle,
    scenario::Act,
    server::ask,
    worker::quoted,
    working::choice,
};

/// How far the clock goes on when nothing is due any more, in milliseconds.
const PATIENCE: [i64; 4] = [1_500, 90_000, 4_000_000, 3 * 86_400_000];

impl Driver<'_> {
    pub async fn drain(&mut self) -> Checked {
        self.log.push("-- and now everything comes to its end".into());
        self.commit_claim().await?;
        for _ in 0..self.connections.callers.len() {
            for by in 0..self.connections.callers.len() {
                let how = if self.connections.callers[by].aborted { "rollback" } else { "commit" };
                self.close(by, how).await?;
                self.collect().await?;
            }
        }
        // A clock that was set back is right again.
        self.server.admin("select longhaul.advance_clock(greatest(interval '0', -(select value from longhaul.setting where name = 'clock_offset_ms') * interval '1 ms'))").await;
        // A worker that was given another lease when the clock stepped back is dead all the same, and the clock that is moved takes living
        // ones along.
        let dead = "update longhaul.worker set expires_at = longhaul.clock() - interval '1 second',
                    heartbeat_at = least(heartbeat_at, longhaul.clock() - interval '1 second') where state = 'active' and id <> ";
        self.server.admin(&format!("{dead}{}", self.worker)).await;
        let (mut patience, mut idle) = (PATIENCE.iter(), 0);
        for round in 0..300 {
            self.chores().await?;
            self.ask("always").await?;
            let (before, had) = (self.state().await, self.held.len());
            self.claim(100, false, false).await?;
            self.finish(0, 1000, patience.len() > 1).await?;
            if round > 1 {
                self.answer_all().await?;
            }
            if self.state().await.is_empty() {
                break;
            }
            if self.state().await != before || had != self.held.len() {
                idle = 0;
            } else {
                let ms = match self.next_time().await {
                    Some(ms) => ms,
                    None => match patience.next() {
                        Some(ms) => *ms,
                        None if idle > 3 => break,
                        None => {
                            idle += 1;
                            300
                        }
                    },
                };
                self.log.push(format!("select longhaul.advance_clock({ms} * interval '1 ms');"));
                self.server.admin(&format!("select longhaul.advance_clock({ms} * interval '1 ms')")).await;
            }
        }
        self.chores().await?;
        self.ask("always").await?;
        self.ask("floors").await?;
        self.judge().await?;
        self.ask("undone").await
    }

    /// In how many milliseconds the next timer or wait is due, and the chore that ends it.
    async fn next_time(&self) -> Option<i64> {
        let sql = "select greatest(ceil(extract(epoch from min(x.at) - longhaul.clock()) * 1000)::bigint, case when count(*) > 0 then 0 end) + 250
                   from (select t.fire_at as at from longhaul.timer t union all select w.due_at from longhaul.wait w) x
                   where x.at > longhaul.clock() - interval '3 seconds' and x.at < 'infinity'";
        self.server.admin(sql).await[0][0].as_deref().and_then(|ms| ms.parse().ok())
    }

    /// Something that changes while anything happens; empty when no run lives that has begun.
    async fn state(&self) -> String {
        let sql = "select coalesce(string_agg(r.id || ' ' || r.revision || ' ' || r.state
                   || (select count(*) from longhaul.attempt a where a.run_id = r.id) || ' ' || (select count(*) from longhaul.step s where s.run_id = r.id), ','), '')
                   from longhaul.run r where r.state in ('running', 'paused') and coalesce(r.start_at, '-infinity') < 'infinity'";
        self.server.admin(sql).await[0][0].clone().unwrap_or_default()
    }

    /// Answers whatever is waited for.
    async fn answer_all(&mut self) -> Checked {
        let questions = "select q.run_id, q.step, q.choices::text, q.kind::text, q.tenant from longhaul.questions q";
        for row in self.server.admin(questions).await {
            let text = |i: usize| row[i].clone().unwrap_or_default();
            if text(3) == "decision" {
                self.answer(&format!(
                    "select longhaul.decide('default', '{}', {}, {})",
                    text(0),
                    quoted(&text(1)),
                    choice(&text(2))
                ))
                .await?;
            }
        }
        let paused = "select r.id from longhaul.run r where r.state = 'paused'
                      or exists (select from longhaul.wait w where w.run_id = r.id and w.kind = 'interrupt')";
        for row in self.server.admin(paused).await {
            self.answer(&format!("select longhaul.resume_run('default', '{}')", row[0].as_deref().unwrap_or_default()))
                .await?;
        }
        let waits = "select w.run_id, w.kind::text, w.topic, w.key from longhaul.wait w where w.topic is not null";
        for row in self.server.admin(waits).await {
            let text = |i: usize| row[i].clone().unwrap_or_default();
            let sql = match (&*text(1), &row[3]) {
                ("external", Some(key)) => {
                    format!("select longhaul.complete_external('default', {}, {})", quoted(&text(2)), quoted(key))
                }
                (_, Some(key)) => {
                    format!("select longhaul.send_signal('default', {}, {})", quoted(&text(2)), quoted(key))
                }
                (_, None) => format!("select longhaul.signal_run('default', '{}', {})", text(0), quoted(&text(2))),
            };
            self.answer(&sql).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, sql: &str) -> Checked {
        let client = self.connections.callers[0].client.clone();
        match self.noted("answer", &client, sql).await {
            Ok(_) => Ok(()),
            Err(refusal) => refused("an answer", &refusal, false),
        }
    }

    /// Each run against the oracle.
    async fn judge(&self) -> Checked {
        for row in self.server.admin("execute runs").await {
            let text = |i: usize| row[i].as_deref().unwrap_or_default();
            let int = |i: usize| text(i).parse::<i64>().unwrap_or_default();
            let detail = || format!("run {} of {}: {} {} {} {}", text(0), text(1), text(2), text(4), text(6), text(11));
            let input: Value = serde_json::from_str(text(4)).unwrap_or_default();
            let ends = oracle::run_ends(self.scenario, text(1), &input);
            let disturbed = int(10) > 0 || text(13) == "true" || self.garbled;
            match text(2) {
                "running" | "paused" if text(14) == "true" => {}
                "running" | "paused" => {
                    return finding(format!("a run does not end: {} {}, in {}", text(2), text(12), text(11)), detail());
                }
                "cancelled" if int(9) == 0 => return finding("a run is cancelled though nobody stopped it", detail()),
                "completed" if !ends.completed && !disturbed => {
                    return finding("a run has completed that must fail", detail());
                }
                // A child's time may have been over.
                "failed"
                    if text(5) == "timeout"
                        && int(7) < int(8)
                        && !self.went_back()
                        && !self.is_family_disturbed(text(0)).await =>
                {
                    return finding("a run was too slow before its time was over", detail());
                }
                "failed" if text(5) == "timeout" && int(8) > 0 => {}
                "failed" if !ends.failed && !disturbed && !self.is_family_disturbed(text(0)).await => {
                    return finding("a run has failed that must complete", detail());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the clock was ever set back: times of runs cannot be compared then.
    fn went_back(&self) -> bool {
        self.scenario.acts.iter().any(|act| matches!(act, Act::Clock { ms } if *ms < 0))
    }

    /// Whether a descendant was stopped, retried, or ended by its deadline, or lost its worker: its parent may fail by that.
    async fn is_family_disturbed(&self, run: &str) -> bool {
        let sql = format!(
            "with recursive below(id) as (
               select c.id from longhaul.run c where c.parent_id = '{run}' union select c.id from below b join longhaul.run c on c.parent_id = b.id)
             select from below b join longhaul.run r on r.id = b.id
             where r.state = 'cancelled' or r.error ->> 'code' = 'timeout'
               or exists (select from longhaul.event e where e.run_id = r.id and (e.kind in ('stopped', 'retried') or e.detail ->> 'choice' = 'reject'))
               or exists (select from longhaul.attempt a where a.run_id = r.id and a.outcome = 'expired') limit 1"
        );
        !ask(&self.connections.worker, &sql).await.unwrap_or_default().is_empty() || self.retained
    }
}
