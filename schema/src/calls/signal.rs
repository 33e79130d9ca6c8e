//! Signals: to a run, or to a topic and key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, Row, readable};
use crate::{Payload, Result, duration::seconds};

/// A signal to be sent.
#[derive(Clone, Debug)]
pub struct NewSignal {
    /// Topic, 1 to 200 characters.
    pub topic: String,
    /// What it says.
    pub payload: Payload,
    /// Twice with one key is once.
    pub idempotency_key: Option<String>,
    /// How long it is kept unless somebody consumes it; as the setting `keep_signals_days` when `None`.
    pub keep: Option<Duration>,
    /// Whether a finished run keeps it instead of refusing it.
    pub keep_if_finished: bool,
    /// Who sends it; the database user when `None`.
    pub by: Option<String>,
}

impl NewSignal {
    /// A signal on a topic.
    pub fn new(topic: impl Into<String>, payload: Payload) -> Self {
        Self { topic: topic.into(), payload, idempotency_key: None, keep: None, keep_if_finished: false, by: None }
    }

    /// With an idempotency key of its own unless it has one: sent again after a lost answer it is still one signal.
    pub fn once(self) -> Self {
        Self { idempotency_key: self.idempotency_key.or_else(|| Some(Uuid::now_v7().to_string())), ..self }
    }

    fn keep_seconds(&self) -> Option<f64> {
        self.keep.map(seconds)
    }
}

/// Which signals to list, the newest first.
#[derive(Clone, Debug, Default)]
pub struct SignalFilter {
    /// Of this topic.
    pub topic: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// To this run, or consumed by it.
    pub run: Option<Uuid>,
    /// That nobody has consumed.
    pub waiting: bool,
    /// Sent before this one: the last of the page before.
    pub before: Option<i64>,
    /// At most so many, of the newest 100,000.
    pub limit: i64,
}

/// A signal that was sent.
#[derive(Clone, Debug)]
pub struct SignalInfo {
    /// Its number, in the order of sending.
    pub id: i64,
    /// Topic.
    pub topic: String,
    /// Key; `None` when it was sent to a run.
    pub key: Option<String>,
    /// The run that it was sent to; `None` when it was sent to a key.
    pub run_id: Option<Uuid>,
    /// What it says.
    pub payload: Payload,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// By whom.
    pub sent_by: String,
    /// When it was consumed.
    pub consumed_at: Option<DateTime<Utc>>,
    /// By which run.
    pub consumed_by: Option<Uuid>,
}

impl<E: Executor> Calls<E> {
    /// Sends a signal to a run. Returns its number.
    pub async fn signal_run(&self, tenant: &str, run: Uuid, signal: &NewSignal) -> Result<i64> {
        let if_finished = if signal.keep_if_finished { "keep" } else { "refuse" };
        let row = self
            .row(
                "select longhaul.signal_run($1, $2, $3, $4, $5, make_interval(secs => $6), $7, $8)",
                &[
                    &tenant,
                    &run,
                    &signal.topic,
                    &Json(signal.payload.raw()),
                    &signal.idempotency_key,
                    &signal.keep_seconds(),
                    &if_finished,
                    &signal.by,
                ],
            )
            .await?;
        row.try_get(0)
    }

    /// Sends a signal to a topic and key: one waiter consumes it, now or later. Returns its number.
    pub async fn send_signal(&self, tenant: &str, key: &str, signal: &NewSignal) -> Result<i64> {
        let row = self
            .row(
                "select longhaul.send_signal($1, $2, $3, $4, $5, make_interval(secs => $6), $7)",
                &[
                    &tenant,
                    &signal.topic,
                    &key,
                    &Json(signal.payload.raw()),
                    &signal.idempotency_key,
                    &signal.keep_seconds(),
                    &signal.by,
                ],
            )
            .await?;
        row.try_get(0)
    }

    /// Reports that outside work has completed, or failed: answers every wait for the topic and key, now and later. The
    /// first report counts. Returns its number.
    pub async fn complete_external(
        &self,
        tenant: &str,
        topic: &str,
        key: &str,
        outcome: std::result::Result<&Payload, &Payload>,
    ) -> Result<i64> {
        let (payload, failed) = match outcome {
            Ok(output) => (output, false),
            Err(error) => (error, true),
        };
        let row = self
            .row(
                "select longhaul.complete_external($1, $2, $3, $4, $5)",
                &[&tenant, &topic, &key, &Json(payload.raw()), &failed],
            )
            .await?;
        row.try_get(0)
    }

    /// Sends a signal to every live run, of one flow or with certain metadata if asked. Returns to how many.
    pub async fn broadcast_signal(
        &self,
        tenant: &str,
        signal: &NewSignal,
        flow: Option<&str>,
        metadata: Option<&Payload>,
    ) -> Result<i64> {
        let metadata = metadata.map(|m| Json(m.raw()));
        let row = self
            .row(
                "select longhaul.broadcast_signal($1, $2, $3, $4, $5, $6, make_interval(secs => $7), $8)",
                &[
                    &tenant,
                    &signal.topic,
                    &Json(signal.payload.raw()),
                    &flow,
                    &metadata,
                    &signal.idempotency_key,
                    &signal.keep_seconds(),
                    &signal.by,
                ],
            )
            .await?;
        row.try_get(0)
    }

    /// The signals that were sent to a run or consumed by it, oldest first.
    pub async fn list_signals(&self, run: Uuid) -> Result<Vec<SignalInfo>> {
        let rows = self
            .rows(
                "select id, topic, key, run_id, payload, sent_at, sent_by, consumed_at, consumed_by from longhaul.signal
                 where run_id = $1 or consumed_by = $1 order by id",
                &[&run],
            )
            .await?;
        readable(&rows, signal_info)
    }

    /// The signals of a tenant, the newest first.
    pub async fn find_signals(&self, tenant: &str, filter: &SignalFilter) -> Result<Vec<SignalInfo>> {
        let rows = self
            .rows(
                "select s.id, s.topic, s.key, s.run_id, s.payload, s.sent_at, s.sent_by, s.consumed_at, s.consumed_by
                 from (select x.* from longhaul.signal x where $6::bigint is null or x.id < $6 order by x.id desc limit 100000) s
                 where s.tenant = $1 and ($2::text is null or s.topic = $2) and ($3::text is null or s.key = $3)
                   and ($4::uuid is null or s.run_id = $4 or s.consumed_by = $4) and (not $5 or s.consumed_at is null)
                 order by s.id desc limit $7",
                &[&tenant, &filter.topic, &filter.key, &filter.run, &filter.waiting, &filter.before, &filter.limit],
            )
            .await?;
        readable(&rows, signal_info)
    }
}

fn signal_info(row: &Row) -> Result<SignalInfo> {
    Ok(SignalInfo {
        id: row.try_get("id")?,
        topic: row.try_get("topic")?,
        key: row.try_get("key")?,
        run_id: row.try_get("run_id")?,
        payload: row.try_get("payload")?,
        sent_at: row.try_get("sent_at")?,
        sent_by: row.try_get("sent_by")?,
        consumed_at: row.try_get("consumed_at")?,
        consumed_by: row.try_get("consumed_by")?,
    })
}
