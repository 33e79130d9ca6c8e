//! One typed method for each database function, by subject.

mod act;
mod chore;
mod claim;
mod column;
mod complete;
mod dead_letter;
mod deploy;
mod durable;
mod explain;
mod find;
mod fleet;
mod gate;
mod health;
mod in_transaction;
mod live;
mod lock;
mod look;
mod metrics;
mod on_database;
mod operation;
mod overview;
mod progress;
mod question;
mod queue;
mod read;
mod request;
mod retention;
mod schedule;
mod signal;
#[cfg(feature = "sqlx")]
mod sqlx;
mod start;
mod state;
mod token;
mod worker;

use std::sync::Arc;

use tokio_postgres::types::ToSql;

pub use act::{ActFilter, ActInfo, NewAct};
pub use chore::ChoreReport;
pub use claim::ClaimedStep;
pub use complete::{AttemptOutcome, EndedAttempt, RefusedAttempt};
pub use dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterGroup};
pub use deploy::{Deployment, Difference, FlowInfo, FlowStep};
pub use durable::{AnswerKind, Checkpoint, NewCheckpoint, NewWait};
pub use explain::Gate;
pub use find::{RunFilter, RunPage};
pub use fleet::{LeaseInfo, WorkerInfo};
pub use gate::{GateInfo, QueuedStep};
pub use health::{BlockedCall, Dormant, Figures, HorizonPin, Overdue, Swollen, VacuumLag};
pub use in_transaction::{InTransaction, JsonStatement};
pub use live::{Failed, LiveQueue, TableSize};
pub use lock::{LockAnswer, LockInfo};
pub use look::{Attempt, GraphStep};
pub use metrics::{ChoreFigure, LockFigure};
pub use operation::{Operation, OperationOptions};
pub use overview::{COUNTED, Counted, OldestReady, QueueLine, RoomCounts, Throughput};
pub use progress::{Progress, ProgressValue, QueueFigure};
pub use question::{Answer, OpenQuestion};
pub use queue::{QueueInfo, QueueLimits};
pub use read::{AttemptInfo, ItemOutput, RunInfo, RunMark, StepInfo, TimelineEntry};
pub use request::ClaimedRequest;
pub use retention::{AgeFigures, ArchivedRun, RetentionPage, RetentionPlan, RetentionPolicy};
pub use schedule::{FiredTick, Missed, Moved, Overlap, ScheduleInfo, Tick, UnreadableSchedule};
pub use signal::{NewSignal, SignalFilter, SignalInfo};
pub use start::{NewRun, NotStarted, StartRuns, Unique};
pub use state::{RunState, StepState};
pub use token::{NewToken, Scope, TokenInfo};
pub use worker::{Neglected, NewWorker, Registration, Renewal};

use column::{Row, every, readable};

pub use crate::connect::Executor;
use crate::{Error, Result, SchemaName};

/// The database functions, on some connection or transaction.
#[derive(Clone, Debug)]
pub struct Calls<E> {
    executor: E,
    schema: SchemaName,
}

impl<E: Executor> Calls<E> {
    /// Calls of the installation in `schema`, on this connection or within this transaction.
    pub fn on(executor: E, schema: SchemaName) -> Self {
        Self { executor, schema }
    }

    /// The connection or transaction.
    pub fn executor(&self) -> &E {
        &self.executor
    }

    /// Gives the connection or transaction back.
    pub fn into_executor(self) -> E {
        self.executor
    }

    /// Runs a statement that is written for schema `longhaul`.
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let sql = self.schema.qualify(sql);
        Ok(Row::all(self.executor.rows(&sql, parameters).await?))
    }

    async fn row(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let rows = self.rows(sql, parameters).await?;
        rows.into_iter().next().ok_or_else(|| Error::Corrupt("a function returned no row".into()))
    }

    async fn run(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<()> {
        self.rows(sql, parameters).await.map(|_| ())
    }
}

/// Identifies a step: its run and its number within the flow version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepKey {
    /// The run.
    pub run_id: uuid::Uuid,
    /// Number of the step in its flow version, from 0.
    pub seq: i32,
}

/// Identifies one try at a step. Its number is the step's fencing token: it grows with every claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The step.
    pub step: StepKey,
    /// Number of the attempt, from 1.
    pub attempt: i32,
}

impl std::fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} step {} attempt {}", self.step.run_id, self.step.seq, self.attempt)
    }
}

/// The columns of some attempts, as the database functions take them.
struct Columns {
    run_ids: Vec<uuid::Uuid>,
    seqs: Vec<i32>,
    attempts: Vec<i32>,
}

impl Columns {
    fn of(keys: impl Iterator<Item = AttemptKey>) -> Self {
        let mut columns = Self { run_ids: Vec::new(), seqs: Vec::new(), attempts: Vec::new() };
        for key in keys {
            columns.run_ids.push(key.step.run_id);
            columns.seqs.push(key.step.seq);
            columns.attempts.push(key.attempt);
        }
        columns
    }
}

/// The attempt that a row names by its columns `run_id`, `seq` and `attempt`.
fn attempt_key(row: &Row) -> Result<AttemptKey> {
    let step = StepKey { run_id: row.try_get("run_id")?, seq: row.try_get("seq")? };
    Ok(AttemptKey { step, attempt: row.try_get("attempt")? })
}

/// A shared name: flows, steps and handlers are named once and then only pointed to.
pub type Name = Arc<str>;
