//! Starting runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tokio_postgres::types::{Json, Timestamp};
use uuid::Uuid;

use super::{Calls, Executor};
use crate::{
    Payload, Result,
    duration::{millis, seconds},
};

/// A run to be started.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id, a UUIDv7. Starting twice under the same id starts once.
    pub id: Uuid,
    /// Its input.
    pub input: Payload,
    /// A name for people, at most 200 characters; not unique.
    pub name: Option<String>,
    /// Priority of all its steps instead of the flow's own; lower goes first.
    pub priority: Option<i16>,
    /// Not before this time of the database's clock.
    pub start_at: Option<DateTime<Utc>>,
    /// Not before so long after now or after `start_at`.
    pub delay: Option<Duration>,
    /// Only created: it is pending until somebody starts it.
    pub create_only: bool,
    /// It fails unless it has ended so long after its start was asked for.
    pub deadline: Option<Duration>,
    /// An object to find it by and to show its progress.
    pub metadata: Option<Payload>,
}

impl NewRun {
    /// A run with a new id that starts at once.
    pub fn new(input: Payload) -> Self {
        Self {
            id: Uuid::now_v7(),
            input,
            name: None,
            priority: None,
            start_at: None,
            delay: None,
            create_only: false,
            deadline: None,
            metadata: None,
        }
    }
}

/// Runs of one flow to be started together.
#[derive(Clone, Copy, Debug)]
pub struct StartRuns<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The flow.
    pub flow: &'a str,
    /// Its version; the latest when `None`.
    pub version: Option<i32>,
    /// The runs.
    pub runs: &'a [NewRun],
}

/// A run that was not started by a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotStarted {
    /// Its id.
    pub id: Uuid,
    /// Why it was refused; `None` when a run of this flow has this id already, as after a repeated call.
    pub refusal: Option<String>,
}

impl<E: Executor> Calls<E> {
    /// Starts runs, in the transaction of the executor if it is one. Returns only those that it did not create.
    pub async fn start_runs(&self, batch: StartRuns<'_>) -> Result<Vec<NotStarted>> {
        let runs = batch.runs;
        let ids: Vec<Uuid> = runs.iter().map(|r| r.id).collect();
        let inputs: Vec<Json<&RawValue>> = runs.iter().map(|r| Json(r.input.raw())).collect();
        // Columns that nobody uses are not sent.
        let names = column(runs, |r| r.name.as_deref());
        let priorities = column(runs, |r| r.priority.map(i32::from));
        let start_ats = column(runs, |r| match r.start_at {
            _ if r.create_only => Some(Timestamp::PosInfinity),
            at => at.map(Timestamp::Value),
        });
        let delays = column(runs, |r| r.delay.map(millis));
        let deadlines = column(runs, |r| r.deadline.map(millis));
        let metadata = column(runs, |r| r.metadata.as_ref().map(|m| Json(m.raw())));
        let rows = self
            .rows(
                "select id, refusal from longhaul.start_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, p_deadlines_ms => $11)",
                &[
                    &batch.tenant,
                    &batch.flow,
                    &batch.version,
                    &ids,
                    &inputs,
                    &names,
                    &priorities,
                    &start_ats,
                    &delays,
                    &metadata,
                    &deadlines,
                ],
            )
            .await?;
        rows.iter().map(|row| Ok(NotStarted { id: row.try_get(0)?, refusal: row.try_get(1)? })).collect()
    }
}

impl<E: Executor> Calls<E> {
    /// Starts a run unless one was started under this key within the window or, without a window, lives still. Returns the run,
    /// and whether it was there already.
    pub async fn start_unique(
        &self,
        tenant: &str,
        flow: &str,
        version: Option<i32>,
        run: &NewRun,
        key: &str,
        window: Option<Duration>,
    ) -> Result<(Uuid, bool)> {
        let metadata = run.metadata.as_ref().map(|m| Json(m.raw()));
        let row = self
            .row(
                "select run_id, existing from longhaul.start_unique($1, $2, $3, $4, $5, $6, make_interval(secs => $7), $8, $9, $10, $11)",
                &[
                    &tenant,
                    &flow,
                    &version,
                    &run.id,
                    &Json(run.input.raw()),
                    &key,
                    &window.map(seconds),
                    &run.name,
                    &run.priority.map(i32::from),
                    &run.delay.map(millis),
                    &metadata,
                ],
            )
            .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}

/// A column of options, or none at all when every one is `None`.
fn column<'a, T>(runs: &'a [NewRun], value: impl Fn(&'a NewRun) -> Option<T>) -> Option<Vec<Option<T>>> {
    runs.iter().any(|run| value(run).is_some()).then(|| runs.iter().map(value).collect())
}
