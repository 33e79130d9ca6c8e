//! One typed method for each database function, by subject.

mod act;
mod again;
mod chore;
mod claim;
mod column;
mod deploy;
mod ending;
mod find;
mod fleet;
mod gate;
mod inspect;
mod lock;
mod look;
mod metrics;
mod overview;
mod progress;
mod queue;
mod read;
mod request;
mod retention;
mod schedule;
mod signal;
mod start;
mod state;
mod steer;
mod suspend;
mod token;
mod worker;

use std::sync::Arc;

use tokio_postgres::types::ToSql;

pub use act::{ActFilter, ActInfo, NewAct};
pub use again::{DeadLetter, DeadLetterFilter, DeadLetterGroup};
pub use chore::ChoreReport;
pub use claim::Claimed;
pub use deploy::{Deployed, Difference, FlowInfo, FlowStep};
pub use ending::{AttemptOutcome, Ended, Refused};
pub use find::{RunFilter, RunPage};
pub use fleet::{LeaseInfo, WorkerInfo};
pub use gate::{GateInfo, QueuedStep};
pub use inspect::{BlockedCall, Dormant, Figures, HorizonPin, Overdue, Swollen};
pub use lock::{LockAnswer, LockInfo};
pub use look::{Attempt, GraphStep};
pub use metrics::{ChoreFigure, LockFigure};
pub use overview::{COUNTED, Counted, OldestReady, QueueLine, RoomCounts, Throughput};
pub use progress::{Progress, QueueFigure, Reported};
pub use queue::{QueueInfo, QueueLimits};
pub use read::{AttemptInfo, ItemOutput, RunInfo, RunMark, StepInfo, TimelineEntry};
pub use request::ClaimedRequest;
pub use retention::{AgeFigures, ArchivedRun, RetentionPage, RetentionPlan, RetentionPolicy};
pub use schedule::{FiredTick, Missed, Moved, Overlap, ScheduleInfo, Tick, UnreadableSchedule};
pub use signal::{NewSignal, SignalFilter, SignalInfo};
pub use start::{NewRun, NotStarted, StartRuns, Unique};
pub use state::{RunState, StepState};
pub use steer::{Answer, Asking, Operation, Question};
pub use suspend::{AnswerKind, Awaited, Checkpoint, NewCheckpoint};
pub use token::{NewToken, Scope, TokenInfo};
pub use worker::{Neglected, NewWorker, Registered, Renewal};

use column::{Row, every, readable};

use crate::{Error, Result, SchemaName, connect::Connection};

/// Something that statements can be run on: a connection of the pool, a client of the caller's own, or a transaction.
pub trait Executor: Send + Sync {
    /// Runs a statement and returns its rows.
    fn rows<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<tokio_postgres::Row>>> + Send + 'a;
}

impl Executor for Connection {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        self.call(sql, parameters).await
    }
}

impl Executor for crate::connect::Transaction<'_> {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        self.call(sql, parameters).await
    }
}

impl Executor for deadpool_postgres::Transaction<'_> {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        let statement = self.prepare_cached(sql).await?;
        Ok(self.query(&statement, parameters).await?)
    }
}

impl Executor for tokio_postgres::Client {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        Ok(self.query(sql, parameters).await?)
    }
}

impl Executor for tokio_postgres::Transaction<'_> {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        Ok(self.query(sql, parameters).await?)
    }
}

impl<E: Executor> Executor for &E {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        (**self).rows(sql, parameters).await
    }
}

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
