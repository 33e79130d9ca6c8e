//! Every gate that something has to pass, open or closed.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor, Row, readable};
use crate::{Payload, Result};

/// Something that a run, a step, a queue or a schedule has to pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gate {
    /// The step that it stands before; `None` for gates of the run, queue or schedule as a whole.
    pub step: Option<String>,
    /// What it is: room, run, timer, signal, key, queue, rate, worker, slot, lease, scheduler, …
    pub gate: String,
    /// open, closed, or ended.
    pub state: String,
    /// Its figures, an object.
    pub figures: Option<Payload>,
    /// How it stands, in words.
    pub finding: String,
    /// What opens it.
    pub opened_by: Option<String>,
    /// When that is to be expected; `None` where it cannot be told.
    pub estimate: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "gate, state, figures, finding, opened_by, estimate";

fn gate(row: &Row, step: Option<String>) -> Result<Gate> {
    Ok(Gate {
        step,
        gate: row.try_get("gate")?,
        state: row.try_get("state")?,
        figures: row.try_get("figures")?,
        finding: row.try_get("finding")?,
        opened_by: row.try_get("opened_by")?,
        estimate: row.try_get("estimate")?,
    })
}

impl<E: Executor> Calls<E> {
    /// The gates of a run and of its first ten steps that have not ended.
    pub async fn explain_run(&self, run: Uuid) -> Result<Vec<Gate>> {
        let rows = self.rows(&format!("select step, {COLUMNS} from longhaul.explain_run($1)"), &[&run]).await?;
        readable(&rows, |row| gate(row, row.try_get("step")?))
    }

    /// The gates of a step, by its number.
    pub async fn explain_step(&self, run: Uuid, seq: i32) -> Result<Vec<Gate>> {
        let sql = format!("select {COLUMNS} from longhaul.explain_step($1, $2)");
        readable(&self.rows(&sql, &[&run, &seq]).await?, |row| gate(row, None))
    }

    /// The gates of a queue.
    pub async fn explain_queue(&self, tenant: &str, queue: &str) -> Result<Vec<Gate>> {
        let sql = format!("select {COLUMNS} from longhaul.explain_queue($1, $2)");
        readable(&self.rows(&sql, &[&queue, &tenant]).await?, |row| gate(row, None))
    }

    /// The gates of a schedule.
    pub async fn explain_schedule(&self, tenant: &str, schedule: &str) -> Result<Vec<Gate>> {
        let sql = format!("select {COLUMNS} from longhaul.explain_schedule($1, $2)");
        readable(&self.rows(&sql, &[&schedule, &tenant]).await?, |row| gate(row, None))
    }
}
