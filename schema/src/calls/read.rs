//! Reading runs and steps. Reads never wait for writers.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor, Row, RunState, StepState, every, readable};
use crate::{Error, Payload, Result};

/// A run, as operators see it.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Id.
    pub id: Uuid,
    /// Flow.
    pub flow: String,
    /// Version of the flow.
    pub version: i32,
    /// Name given by the caller.
    pub name: Option<String>,
    /// Present state.
    pub state: RunState,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// Before this time it is pending.
    pub start_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Steps in all.
    pub steps: i32,
    /// Steps that are not final.
    pub open_steps: i32,
    /// Raised by every change of the run.
    pub revision: i32,
    /// Its input.
    pub input: Payload,
    /// Why it failed.
    pub error: Option<Payload>,
    /// An object of the user's.
    pub metadata: Option<Payload>,
    /// Why it is paused: `operator` or `question`.
    pub paused_for: Option<String>,
    /// Whether it failed and its completed steps were undone.
    pub compensated: bool,
    /// Since when it is left out of lists.
    pub dismissed_at: Option<DateTime<Utc>>,
    /// The run that started it as a child.
    pub parent_id: Option<Uuid>,
    /// The run that it was forked from.
    pub forked_from: Option<Uuid>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMark {
    /// Id.
    pub id: Uuid,
    /// Flow.
    pub flow: String,
    /// Name given by the caller.
    pub name: Option<String>,
    /// Present state.
    pub state: RunState,
    /// Raised by every change of the run.
    pub revision: i32,
    /// Steps that are not final.
    pub open_steps: i32,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A step, as operators see it.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// Number within the flow version.
    pub seq: i32,
    /// Name.
    pub name: String,
    /// What it is: `handler`, `child`, `sleep` or `signal`.
    pub kind: String,
    /// Phase of the flow.
    pub phase: Option<String>,
    /// Handler; `None` when the database does it.
    pub handler: Option<String>,
    /// Queue.
    pub queue: Option<String>,
    /// Present state.
    pub state: StepState,
    /// Number of the present or last attempt; `None` before the first.
    pub attempt: Option<i32>,
    /// Failed attempts, while the step lives.
    pub failures: Option<i16>,
    /// Most attempts.
    pub max_attempts: i16,
    /// Worker of the present or last attempt.
    pub worker_id: Option<i64>,
    /// When that attempt was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When the step ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Until when it sleeps or waits.
    pub fire_at: Option<DateTime<Utc>>,
    /// What it waits for.
    pub waits_for: Option<String>,
    /// Its output.
    pub output: Option<Payload>,
    /// Why it failed.
    pub error: Option<Payload>,
}

/// An attempt that did not complete its step.
#[derive(Clone, Debug)]
pub struct AttemptInfo {
    /// The step's name.
    pub step: String,
    /// Number of the attempt.
    pub attempt: i32,
    /// How it ended: failed, timed_out, panicked, expired, released, snoozed or cancelled.
    pub outcome: String,
    /// Its worker.
    pub worker_id: i64,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// What went wrong.
    pub error: Option<Payload>,
}

/// What an item of a fan-out gave.
#[derive(Clone, Debug)]
pub struct ItemOutput {
    /// Place in the list, from 0.
    pub index: i32,
    /// How it ended; `None` while it lives.
    pub outcome: Option<StepState>,
    /// Its output.
    pub output: Option<Payload>,
    /// Why it failed.
    pub error: Option<Payload>,
}

/// An entry of a run's timeline.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    /// When.
    pub at: DateTime<Utc>,
    /// What: `created`, `attempt began`, `step completed`, `paused`, …
    pub kind: String,
    /// Of which step.
    pub step: Option<String>,
    /// Of which attempt.
    pub attempt: Option<i32>,
    /// By whom.
    pub actor: Option<String>,
    /// More about it.
    pub detail: Option<Payload>,
}

pub(super) const MARK_COLUMNS: &str = "id, flow, name, state::text, revision, open_steps, ended_at";

pub(super) const RUN_COLUMNS: &str = "id, flow, version, name, state::text, created_at, start_at, ended_at, steps, open_steps, revision, input, error, \
     metadata, paused_for, compensated, dismissed_at, parent_id, forked_from";

impl<E: Executor> Calls<E> {
    /// One run of a tenant.
    pub async fn get_run(&self, tenant: &str, id: Uuid) -> Result<RunInfo> {
        let sql = format!("select {RUN_COLUMNS} from longhaul.runs where id = $1 and tenant = $2");
        let rows = self.rows(&sql, &[&id, &tenant]).await?;
        rows.first()
            .map(run_info)
            .unwrap_or_else(|| Err(Error::NotFound(format!("there is no run {id} for tenant {tenant}"))))
    }

    /// The present states of some runs; ids that are no runs of this tenant are left out.
    pub async fn run_states(&self, tenant: &str, ids: &[Uuid]) -> Result<Vec<(Uuid, RunState)>> {
        let rows = self
            .rows("select id, state::text from longhaul.runs where id = any ($1) and tenant = $2", &[&ids, &tenant])
            .await?;
        readable(&rows, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
    }

    /// How far some runs are; ids that are no runs of this tenant are left out.
    pub async fn run_marks(&self, tenant: &str, ids: &[Uuid]) -> Result<Vec<RunMark>> {
        let sql = format!(
            "select {MARK_COLUMNS}
             from unnest($1::uuid[]) i(asked) cross join lateral (select x.* from longhaul.runs x where x.id = i.asked offset 0) r
             where r.tenant = $2 order by r.id desc"
        );
        readable(&self.rows(&sql, &[&ids, &tenant]).await?, run_mark)
    }

    /// What a completed run gave; `None` for other runs.
    pub async fn run_output(&self, id: Uuid) -> Result<Option<Payload>> {
        let row = self.row("select longhaul.run_output($1) as output", &[&id]).await?;
        row.try_get("output")
    }

    /// The steps of a run, by number.
    pub async fn list_steps(&self, run_id: Uuid) -> Result<Vec<StepInfo>> {
        let rows = self
            .rows(
                "select seq, name, kind::text, phase, handler, queue, state::text, attempt, failures, max_attempts, worker_id, started_at, ended_at, fire_at,
                        waits_for, output, error
                 from longhaul.steps where run_id = $1 order by seq",
                &[&run_id],
            )
            .await?;
        readable(&rows, step_info)
    }

    /// The output of a step of a run, by name; `None` while it has not completed.
    pub async fn step_output(&self, run_id: Uuid, step: &str) -> Result<Option<Payload>> {
        let rows = self
            .rows(
                "select longhaul.step_output(s.run_id, s.seq) as output from longhaul.run r
                 join longhaul.flow_step f on f.flow_id = r.flow_id and f.name = $2
                 join longhaul.step s on s.run_id = r.id and s.seq = f.seq
                 where r.id = $1",
                &[&run_id, &step],
            )
            .await?;
        match rows.first() {
            Some(row) => row.try_get("output"),
            None => Err(Error::NotFound(format!("run {run_id} has no step {step}"))),
        }
    }

    /// How a step of a run has ended, by name: completed, skipped, failed or cancelled; `None` while it has not.
    pub async fn step_outcome(&self, run_id: Uuid, step: &str) -> Result<Option<String>> {
        let rows = self
            .rows(
                "select s.outcome::text as outcome from longhaul.run r
                 join longhaul.flow_step f on f.flow_id = r.flow_id and f.name = $2
                 join longhaul.step s on s.run_id = r.id and s.seq = f.seq
                 where r.id = $1",
                &[&run_id, &step],
            )
            .await?;
        match rows.first() {
            Some(row) => row.try_get("outcome"),
            None => Err(Error::NotFound(format!("run {run_id} has no step {step}"))),
        }
    }

    /// The attempts of a run that did not complete their steps, in the order in which they ended.
    pub async fn list_attempts(&self, run_id: Uuid) -> Result<Vec<AttemptInfo>> {
        let rows = self
            .rows(
                "select f.name, a.attempt, a.outcome::text, a.worker_id, a.claimed_at, a.ended_at, a.error
                 from longhaul.attempt a
                 join longhaul.steps f on f.run_id = a.run_id and f.seq = a.seq
                 where a.run_id = $1 order by a.ended_at, a.seq, a.attempt",
                &[&run_id],
            )
            .await?;
        readable(&rows, |row| {
            Ok(AttemptInfo {
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

    /// A page of what the items of a fan-out gave, by the name of its step; beginning with item `from`, at most `limit`.
    pub async fn item_outputs(&self, run_id: Uuid, step: &str, from: i32, limit: i32) -> Result<Vec<ItemOutput>> {
        let rows = self
            .rows(
                "select i.index, i.outcome::text, i.output, i.error from longhaul.run r
                 join longhaul.flow_step f on f.flow_id = r.flow_id and f.name = $2
                 cross join lateral longhaul.item_outputs(r.id, f.seq, $3, $4) i
                 where r.id = $1 order by i.index",
                &[&run_id, &step, &from, &limit],
            )
            .await?;
        every(&rows, |row| {
            Ok(ItemOutput {
                index: row.try_get("index")?,
                outcome: row.try_get("outcome")?,
                output: row.try_get("output")?,
                error: row.try_get("error")?,
            })
        })
    }

    /// What happened to a run, when, and by whom, in order.
    pub async fn timeline(&self, run_id: Uuid) -> Result<Vec<TimelineEntry>> {
        let rows =
            self.rows("select at, kind, step, attempt, actor, detail from longhaul.timeline($1)", &[&run_id]).await?;
        readable(&rows, |row| {
            Ok(TimelineEntry {
                at: row.try_get("at")?,
                kind: row.try_get("kind")?,
                step: row.try_get("step")?,
                attempt: row.try_get("attempt")?,
                actor: row.try_get("actor")?,
                detail: row.try_get("detail")?,
            })
        })
    }

    /// One sentence that says why a step is not running.
    pub async fn why(&self, run_id: Uuid, step: &str) -> Result<String> {
        self.row("select longhaul.why($1, $2)", &[&run_id, &step]).await?.try_get(0)
    }
}

pub(super) fn run_mark(row: &Row) -> Result<RunMark> {
    Ok(RunMark {
        id: row.try_get("id")?,
        flow: row.try_get("flow")?,
        name: row.try_get("name")?,
        state: row.try_get("state")?,
        revision: row.try_get("revision")?,
        open_steps: row.try_get("open_steps")?,
        ended_at: row.try_get("ended_at")?,
    })
}

pub(super) fn run_info(row: &Row) -> Result<RunInfo> {
    Ok(RunInfo {
        id: row.try_get("id")?,
        flow: row.try_get("flow")?,
        version: row.try_get("version")?,
        name: row.try_get("name")?,
        state: row.try_get("state")?,
        created_at: row.try_get("created_at")?,
        start_at: row.try_get("start_at")?,
        ended_at: row.try_get("ended_at")?,
        steps: row.try_get("steps")?,
        open_steps: row.try_get("open_steps")?,
        revision: row.try_get("revision")?,
        input: row.try_get("input")?,
        error: row.try_get("error")?,
        metadata: row.try_get("metadata")?,
        paused_for: row.try_get("paused_for")?,
        compensated: row.try_get("compensated")?,
        dismissed_at: row.try_get("dismissed_at")?,
        parent_id: row.try_get("parent_id")?,
        forked_from: row.try_get("forked_from")?,
    })
}

fn step_info(row: &Row) -> Result<StepInfo> {
    Ok(StepInfo {
        seq: row.try_get("seq")?,
        name: row.try_get("name")?,
        kind: row.try_get("kind")?,
        phase: row.try_get("phase")?,
        handler: row.try_get("handler")?,
        queue: row.try_get("queue")?,
        state: row.try_get("state")?,
        attempt: row.try_get("attempt")?,
        failures: row.try_get("failures")?,
        max_attempts: row.try_get("max_attempts")?,
        worker_id: row.try_get("worker_id")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
        fire_at: row.try_get("fire_at")?,
        waits_for: row.try_get("waits_for")?,
        output: row.try_get("output")?,
        error: row.try_get("error")?,
    })
}
