//! Suspending steps that wait, and the history from which they go on.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{AttemptKey, Calls, Columns, Executor, RefusedAttempt, StepKey, complete::refused, every};
use crate::{Error, Payload, Result, duration::millis};

/// Something that a suspended step waits for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewWait {
    /// `sleep`, `signal`, `child`, `decision`, `interrupt`, `external`; or `new`, which begins the step anew.
    pub kind: &'static str,
    /// Its place in the function.
    pub path: String,
    /// Its name in the history.
    pub name: String,
    /// How long the sleep lasts, or how long to wait at most.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds", rename = "wait_ms")]
    pub wait: Option<Duration>,
    /// Topic of the signal or completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Key of the signal or completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Flow of the child run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Version of that flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Input of the child run, or of what begins anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// The question: `question`, `choices`, `by`, `value`, `default`, `pauses`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Payload>,
    /// Keys to set in the run's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Payload>,
}

fn milliseconds<S: serde::Serializer>(wait: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match wait {
        Some(wait) => serializer.serialize_i64(millis(*wait)),
        None => serializer.serialize_none(),
    }
}

/// How something that was waited for, or computed once, came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// With a value.
    Ok,
    /// With an error.
    Error,
    /// Not in time.
    Timeout,
}

/// An entry of a step's history.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Place in the function.
    pub path: String,
    /// What kind of operation.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How it came out; `None` while it is waited for.
    pub answer: Option<AnswerKind>,
    /// The value, the error, or what was begun.
    pub value: Payload,
}

/// A checkpoint to be saved.
#[derive(Clone, Debug)]
pub struct NewCheckpoint {
    /// The attempt that computed it.
    pub key: AttemptKey,
    /// Place in the function.
    pub path: String,
    /// What kind of operation.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The value.
    pub value: Payload,
}

impl<E: Executor> Calls<E> {
    /// Suspends steps, each until the first of what it waits for. Returns only what was refused. May be repeated.
    pub async fn suspend(&self, worker: i64, items: &[(AttemptKey, Vec<NewWait>)]) -> Result<Vec<RefusedAttempt>> {
        self.suspension(worker, items, false).await
    }

    /// As [`Calls::suspend`], but does not wait for runs that somebody else is at: their items are refused as `busy`.
    pub async fn try_suspend(&self, worker: i64, items: &[(AttemptKey, Vec<NewWait>)]) -> Result<Vec<RefusedAttempt>> {
        self.suspension(worker, items, true).await
    }

    async fn suspension(
        &self,
        worker: i64,
        items: &[(AttemptKey, Vec<NewWait>)],
        skip_busy: bool,
    ) -> Result<Vec<RefusedAttempt>> {
        let keys = Columns::of(items.iter().map(|(key, _)| *key));
        let waits: Vec<Json<&Vec<NewWait>>> = items.iter().map(|(_, waits)| Json(waits)).collect();
        let rows = self
            .rows(
                "select * from longhaul.suspend($1, $2, $3, $4, $5, $6)",
                &[&worker, &keys.run_ids, &keys.seqs, &keys.attempts, &waits, &skip_busy],
            )
            .await?;
        rows.iter().map(refused).collect()
    }

    /// Saves checkpoints. Returns only what was refused, because the lease is lost. May be repeated.
    pub async fn save_checkpoints(&self, worker: i64, items: &[NewCheckpoint]) -> Result<Vec<RefusedAttempt>> {
        self.saving(worker, items, false).await
    }

    /// As [`Calls::save_checkpoints`], but does not wait for leases that somebody else is at: their items are refused as `busy`.
    pub async fn try_save_checkpoints(&self, worker: i64, items: &[NewCheckpoint]) -> Result<Vec<RefusedAttempt>> {
        self.saving(worker, items, true).await
    }

    async fn saving(&self, worker: i64, items: &[NewCheckpoint], skip_busy: bool) -> Result<Vec<RefusedAttempt>> {
        let keys = Columns::of(items.iter().map(|item| item.key));
        let paths: Vec<&str> = items.iter().map(|item| item.path.as_str()).collect();
        let kinds: Vec<&str> = items.iter().map(|item| item.kind).collect();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        let values: Vec<Json<&RawValue>> = items.iter().map(|item| Json(item.value.raw())).collect();
        let rows = self
            .rows(
                "select * from longhaul.save_checkpoints($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                &[&worker, &keys.run_ids, &keys.seqs, &keys.attempts, &paths, &kinds, &names, &values, &skip_busy],
            )
            .await?;
        rows.iter().map(refused).collect()
    }

    /// What a step has computed and begun so far.
    pub async fn history(&self, step: StepKey) -> Result<Vec<Checkpoint>> {
        let rows = self
            .rows(
                "select path, kind, name, answer::text, value from longhaul.history($1, $2)",
                &[&step.run_id, &step.seq],
            )
            .await?;
        every(&rows, |row| {
            let answer = match row.try_get::<Option<&str>>("answer")? {
                None => None,
                Some("ok") => Some(AnswerKind::Ok),
                Some("error") => Some(AnswerKind::Error),
                Some("timeout") => Some(AnswerKind::Timeout),
                Some(other) => return Err(Error::Corrupt(format!("a checkpoint with the answer {other}"))),
            };
            Ok(Checkpoint {
                path: row.try_get("path")?,
                kind: row.try_get("kind")?,
                name: row.try_get("name")?,
                answer,
                value: row.try_get::<Option<Payload>>("value")?.unwrap_or_else(Payload::null),
            })
        })
    }

    /// Starts a child run that nobody waits for, once for each place in a step. May be repeated. `None`: somebody else holds the
    /// step's run, and is not waited for; ask again.
    pub async fn try_start_detached(&self, worker: i64, key: AttemptKey, child: &NewWait) -> Result<Option<Uuid>> {
        let input = child.input.as_ref().map(|i| Json(i.raw()));
        let row = self
            .row(
                "select longhaul.save_detached_child($1, $2, $3, $4, $5, $6, $7, $8, true)",
                &[
                    &worker,
                    &key.step.run_id,
                    &key.step.seq,
                    &key.attempt,
                    &child.path,
                    &child.flow,
                    &child.version,
                    &input,
                ],
            )
            .await?;
        row.try_get(0)
    }
}
