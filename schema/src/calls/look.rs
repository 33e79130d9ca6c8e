//! Looking closely at a run: its graph, all of its attempts, why its steps do not run.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor, StepState, readable};
use crate::{Payload, Result};

/// A step of a run's flow with its edges and present state.
#[derive(Clone, Debug)]
pub struct GraphStep {
    /// Number within the flow version.
    pub seq: i32,
    /// Name.
    pub name: String,
    /// `handler`, `child`, `sleep` or `signal`.
    pub kind: String,
    /// Phase of the flow.
    pub phase: Option<String>,
    /// Handler; `None` when the database does it.
    pub handler: Option<String>,
    /// Numbers of the steps that it waits for.
    pub after: Vec<i32>,
    /// For a compensation: the step that it undoes.
    pub undoes: Option<i32>,
    /// Present state; `None` for a compensation that is not called for.
    pub state: Option<StepState>,
    /// Number of the present or last attempt.
    pub attempt: Option<i32>,
    /// When that attempt was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When the step ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// For a fan-out that has begun: items in all, items begun, items ended.
    pub items: Option<(i32, i32, i32)>,
}

/// An attempt, whatever became of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Number of the step.
    pub seq: i32,
    /// The step's name.
    pub step: String,
    /// Number of the attempt.
    pub attempt: i32,
    /// `completed`, `running`, or how it ended otherwise.
    pub outcome: String,
    /// Its worker.
    pub worker_id: Option<i64>,
    /// When it was claimed.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What went wrong.
    pub error: Option<Payload>,
}

impl<E: Executor> Calls<E> {
    /// The steps of a run's flow with their edges and states, by number; items of fan-outs are counted and not listed.
    pub async fn run_graph(&self, run: Uuid) -> Result<Vec<GraphStep>> {
        let rows = self
            .rows(
                "select f.seq, f.name, f.kind::text as kind, f.phase, l.handler, f.predecessor_seqs, f.undoes, s.state::text as state, s.attempt,
                        s.started_at, s.ended_at, o.total, o.opened, o.ended
                 from longhaul.run r
                 join longhaul.flow_step f on f.flow_id = r.flow_id
                 left join longhaul.lane l on l.id = f.lane_id
                 left join lateral (select x.* from longhaul.steps x where x.run_id = r.id and x.seq = f.seq offset 0) s on true
                 left join longhaul.fan_out o on o.run_id = r.id and o.seq = f.seq
                 where r.id = $1 order by f.seq",
                &[&run],
            )
            .await?;
        readable(&rows, |row| {
            let items = row.try_get::<Option<i32>>("total")?.zip(row.try_get("opened")?).zip(row.try_get("ended")?);
            Ok(GraphStep {
                seq: row.try_get("seq")?,
                name: row.try_get("name")?,
                kind: row.try_get("kind")?,
                phase: row.try_get("phase")?,
                handler: row.try_get("handler")?,
                after: row.try_get("predecessor_seqs")?,
                undoes: row.try_get("undoes")?,
                state: row.try_get("state")?,
                attempt: row.try_get("attempt")?,
                started_at: row.try_get("started_at")?,
                ended_at: row.try_get("ended_at")?,
                items: items.map(|((total, opened), ended)| (total, opened, ended)),
            })
        })
    }

    /// All attempts of a run, in the order in which they were claimed: those that are over, completed or not, and those that run.
    pub async fn all_attempts(&self, run: Uuid) -> Result<Vec<Attempt>> {
        let rows = self
            .rows(
                "select a.seq, s.name, a.attempt, a.outcome, a.worker_id, a.claimed_at, a.ended_at, a.error
                 from (
                   select x.seq, x.attempt, x.outcome::text, x.worker_id, x.claimed_at, x.ended_at, x.error from longhaul.attempt x where x.run_id = $1
                   union all
                   select x.seq, x.attempt, 'completed', x.worker_id, x.started_at, x.ended_at, null from longhaul.step x
                   where x.run_id = $1 and x.outcome = 'completed' and x.attempt is not null
                   union all
                   select x.seq, x.attempt, 'running', x.worker_id, x.claimed_at, null, null from longhaul.lease x where x.run_id = $1) a
                 join longhaul.steps s on s.run_id = $1 and s.seq = a.seq
                 order by a.claimed_at, a.seq, a.attempt",
                &[&run],
            )
            .await?;
        readable(&rows, |row| {
            Ok(Attempt {
                seq: row.try_get("seq")?,
                step: row.try_get("name")?,
                attempt: row.try_get("attempt")?,
                outcome: row.try_get("outcome")?,
                worker_id: row.try_get("worker_id")?,
                claimed_at: row.try_get("claimed_at")?,
                ended_at: row.try_get("ended_at")?,
                error: row.try_get("error")?,
            })
        })
    }

    /// Why the steps of a run that have not ended do not run, in one sentence each, by number; at most `limit`.
    pub async fn whys(&self, run: Uuid, limit: i64) -> Result<Vec<(String, String)>> {
        let rows = self
            .rows(
                "select s.name, longhaul.why($1, s.name) as why
                 from (select x.seq, x.name from longhaul.steps x where x.run_id = $1 and x.ended_at is null order by x.seq limit $2) s order by s.seq",
                &[&run, &limit],
            )
            .await?;
        readable(&rows, |row| Ok((row.try_get("name")?, row.try_get("why")?)))
    }
}
