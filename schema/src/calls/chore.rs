//! Chores.

use std::time::Duration;

use super::{Calls, Executor};
use crate::{
    Result,
    duration::{from_millis, from_seconds, millis},
};

/// What a call of [`Calls::run_chore`] did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChoreReport {
    /// The chore that was due; `None` when none was.
    pub name: Option<String>,
    /// Items that it handled.
    pub items: Option<i64>,
    /// Why it failed.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Option<Duration>,
    /// When the next chore is due.
    pub due_in: Duration,
}

impl<E: Executor> Calls<E> {
    /// Does one chore that is due, if any.
    pub async fn run_chore(&self) -> Result<ChoreReport> {
        let row = self.row("select * from longhaul.run_chore()", &[]).await?;
        Ok(ChoreReport {
            name: row.try_get("chore_name")?,
            items: row.try_get("items")?,
            failure: row.try_get("failure")?,
            took: row.try_get::<Option<f64>>("milliseconds")?.map(|ms| from_seconds(ms / 1000.0)),
            due_in: from_millis(row.try_get::<Option<i64>>("due_in_ms")?.unwrap_or(1000)),
        })
    }

    /// Changes how often a chore is done.
    pub async fn set_chore_interval(&self, chore: &str, interval: Duration) -> Result<()> {
        self.run("select longhaul.set_chore_interval($1, $2)", &[&chore, &millis(interval)]).await
    }
}
