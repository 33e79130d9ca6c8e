//! Starting runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor};
use crate::{Error, Payload, Result, duration::millis};

/// A run to be started.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id, a UUIDv7. Starting twice under the same id starts once; with another input, that is a conflict.
    pub id: Uuid,
    /// Its input.
    pub input: Payload,
    /// A name for people, at most 200 characters; not unique.
    pub name: Option<String>,
    /// Priority of all its steps instead of the flow's own; lower goes first.
    pub priority: Option<i16>,
    /// Not before this time of the database's clock, from 1970 to 10,000 days ahead; a time in the past is now.
    pub start_at: Option<DateTime<Utc>>,
    /// Not before so long after now or after `start_at`.
    pub delay: Option<Duration>,
    /// Only created: it is pending until somebody starts it. Not together with `start_at` or `delay`.
    pub create_only: bool,
    /// It fails unless it has ended so long after its start; a run that is only created starts when somebody begins it.
    pub deadline: Option<Duration>,
    /// An object to find it by and to show its progress.
    pub metadata: Option<Payload>,
    /// A key, and how long it counts: unless the key belongs to another run of the flow. Then that one is given.
    pub unique: Option<(String, Unique)>,
}

/// How long the key of a unique start counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// As long as the run lives; pending and paused runs do.
    WhileLive,
    /// For this time from the start on, whatever becomes of the run. A hundred years are for ever.
    For(Duration),
    /// For ever: an idempotency key.
    Forever,
}

/// A hundred years, which the database takes for ever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Unique {
    pub(super) fn window_ms(self) -> Option<i64> {
        match self {
            Self::WhileLive => None,
            Self::For(window) => Some(window.min(FOREVER).as_millis() as i64),
            Self::Forever => Some(FOREVER.as_millis() as i64),
        }
    }
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
            unique: None,
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
    /// The id that it was to have.
    pub id: Uuid,
    /// The run that is there already, under this id or under its key.
    pub existing: Option<Uuid>,
    /// Why it was refused; `None` when the run that is there already is the same start, as after a repeated call.
    pub refusal: Option<String>,
    /// Whether it was refused because its id or its key belongs to a run with another input, version or flow.
    pub conflict: bool,
}

impl NotStarted {
    /// The refusal as an error.
    pub fn into_error(self) -> Option<Error> {
        let reason = self.refusal?;
        Some(if self.conflict { Error::Conflict(reason) } else { Error::Invalid(reason) })
    }
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
        let start_ats = column(runs, |r| r.start_at);
        let delays = column(runs, |r| r.delay.map(millis));
        let deadlines = column(runs, |r| r.deadline.map(millis));
        let metadata = column(runs, |r| r.metadata.as_ref().map(|m| Json(m.raw())));
        let keys = column(runs, |r| r.unique.as_ref().map(|(key, _)| key.as_str()));
        let windows = column(runs, |r| r.unique.as_ref().and_then(|(_, unique)| unique.window_ms()));
        let create_only = column(runs, |r| r.create_only.then_some(true));
        let rows = self
            .rows(
                "select id, run_id, refusal, conflict from longhaul.start_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                   p_deadlines_ms => $11, p_keys => $12, p_windows_ms => $13, p_create_only => $14)",
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
                    &keys,
                    &windows,
                    &create_only,
                ],
            )
            .await?;
        let not_started = |row: &super::Row| {
            Ok(NotStarted {
                id: row.try_get("id")?,
                existing: row.try_get("run_id")?,
                refusal: row.try_get("refusal")?,
                conflict: row.try_get("conflict")?,
            })
        };
        rows.iter().map(not_started).collect()
    }
}

/// A column of options, or none at all when every one is `None`.
fn column<'a, T>(runs: &'a [NewRun], value: impl Fn(&'a NewRun) -> Option<T>) -> Option<Vec<Option<T>>> {
    runs.iter().any(|run| value(run).is_some()).then(|| runs.iter().map(value).collect())
}
