//! Dead letters.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Calls, Executor, readable};
use crate::{Payload, Result};

/// Which dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetterFilter {
    /// Of this tenant.
    pub tenant: String,
    /// Of this flow.
    pub flow: Option<String>,
    /// Of this step.
    pub step: Option<String>,
    /// Of this handler.
    pub handler: Option<String>,
    /// Of this run.
    pub run_id: Option<Uuid>,
    /// Whose message is like this, with `%` for any text.
    pub message: Option<String>,
    /// Since this time.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: i32,
}

impl DeadLetterFilter {
    /// The oldest 1,000 of a tenant.
    pub fn of(tenant: impl Into<String>) -> Self {
        Self {
            tenant: tenant.into(),
            flow: None,
            step: None,
            handler: None,
            run_id: None,
            message: None,
            since: None,
            limit: 1000,
        }
    }
}

/// A step that used up its attempts.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its run.
    pub run_id: Uuid,
    /// Its flow.
    pub flow: String,
    /// Version of the flow.
    pub version: i32,
    /// Its name.
    pub step: String,
    /// Its handler.
    pub handler: Option<String>,
    /// When it failed.
    pub died_at: DateTime<Utc>,
    /// Number of the last attempt.
    pub attempt: Option<i32>,
    /// The last error.
    pub error: Option<Payload>,
    /// The state of its run.
    pub run_state: String,
}

/// Dead letters that died of the same.
#[derive(Clone, Debug)]
pub struct DeadLetterGroup {
    /// Their flow.
    pub flow: String,
    /// Their step.
    pub step: String,
    /// Their handler.
    pub handler: Option<String>,
    /// What went wrong, in words.
    pub message: Option<String>,
    /// How many.
    pub count: i64,
    /// When the first of them failed.
    pub first: DateTime<Utc>,
    /// When the last of them failed.
    pub last: DateTime<Utc>,
    /// Some of their runs, the oldest first.
    pub runs: Vec<Uuid>,
}

const FILTER: &str =
    "$1, p_flow => $2, p_step => $3, p_handler => $4, p_run_id => $5, p_message => $6, p_since => $7, p_limit => $8";

impl<E: Executor> Calls<E> {
    /// Dead letters, oldest first.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>> {
        let sql = format!(
            "select run_id, flow, version, step, handler, died_at, attempt, error, run_state::text from longhaul.chosen_dead_letters({FILTER})"
        );
        let f = filter;
        let rows = self
            .rows(&sql, &[&f.tenant, &f.flow, &f.step, &f.handler, &f.run_id, &f.message, &f.since, &f.limit])
            .await?;
        readable(&rows, |row| {
            Ok(DeadLetter {
                run_id: row.try_get("run_id")?,
                flow: row.try_get("flow")?,
                version: row.try_get("version")?,
                step: row.try_get("step")?,
                handler: row.try_get("handler")?,
                died_at: row.try_get("died_at")?,
                attempt: row.try_get("attempt")?,
                error: row.try_get("error")?,
                run_state: row.try_get("run_state")?,
            })
        })
    }

    /// Dead letters by flow, step and error, the most frequent first; of the oldest [`DeadLetterFilter::limit`].
    pub async fn dead_letter_groups(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterGroup>> {
        let sql = format!(
            "select d.flow, d.step, d.handler, longhaul.error_in_words(d.error) as message, count(*) as count, min(d.died_at) as first, max(d.died_at) as last,
                    (array_agg(d.run_id order by d.died_at))[1:5] as runs
             from longhaul.chosen_dead_letters({FILTER}) d group by 1, 2, 3, 4 order by count desc, first limit 500"
        );
        let f = filter;
        let rows = self
            .rows(&sql, &[&f.tenant, &f.flow, &f.step, &f.handler, &f.run_id, &f.message, &f.since, &f.limit])
            .await?;
        readable(&rows, |row| {
            Ok(DeadLetterGroup {
                flow: row.try_get("flow")?,
                step: row.try_get("step")?,
                handler: row.try_get("handler")?,
                message: row.try_get("message")?,
                count: row.try_get("count")?,
                first: row.try_get("first")?,
                last: row.try_get("last")?,
                runs: row.try_get("runs")?,
            })
        })
    }

    /// Retries the failed runs of dead letters. Returns how many runs.
    pub async fn retry_dead_letters(&self, filter: &DeadLetterFilter, by: Option<&str>) -> Result<i64> {
        self.on_dead_letters("retry_dead_letters", filter, by).await
    }

    /// Takes dead letters off the list; their runs stay as they are. Returns how many.
    pub async fn discard_dead_letters(&self, filter: &DeadLetterFilter, by: Option<&str>) -> Result<i64> {
        self.on_dead_letters("discard_dead_letters", filter, by).await
    }

    async fn on_dead_letters(&self, function: &str, f: &DeadLetterFilter, by: Option<&str>) -> Result<i64> {
        let sql = format!("select longhaul.{function}({FILTER}, p_by => $9)");
        let row = self
            .row(&sql, &[&f.tenant, &f.flow, &f.step, &f.handler, &f.run_id, &f.message, &f.since, &f.limit, &by])
            .await?;
        row.try_get(0)
    }
}
