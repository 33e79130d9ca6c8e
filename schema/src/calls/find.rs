//! Finding runs, newest first, at a bounded cost.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{
    Calls, Executor, Row, RunState,
    read::{RUN_COLUMNS, RunInfo, run_info},
    readable,
};
use crate::{Payload, Result};

/// Which runs to list, newest first.
#[derive(Clone, Debug)]
pub struct RunFilter {
    /// Of this tenant.
    pub tenant: String,
    /// Of this flow only.
    pub flow: Option<String>,
    /// Of this version only.
    pub version: Option<i32>,
    /// In this state only.
    pub state: Option<RunState>,
    /// With this name only; `%` stands for any text.
    pub name: Option<String>,
    /// Whose metadata contains this.
    pub metadata: Option<Payload>,
    /// Created since then.
    pub since: Option<DateTime<Utc>>,
    /// Created before then.
    pub until: Option<DateTime<Utc>>,
    /// Children of this run only.
    pub parent: Option<Uuid>,
    /// Dismissed runs as well.
    pub dismissed: bool,
    /// Older than this run only: the last one of the page before.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
    /// Look at so many runs at most, so that the answer comes in the same time whatever the history holds. See [`RunPage`].
    pub look: i64,
}

/// Some runs, and how far was looked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunPage {
    /// The runs, newest first.
    pub runs: Vec<RunInfo>,
    /// Older runs than this one were not looked at, because [`RunFilter::look`] was used up: give it as [`RunFilter::before`] to go on.
    /// `None` when the page is full, or there are no older runs.
    pub looked_to: Option<Uuid>,
}

impl Default for RunFilter {
    /// The newest 50 runs of tenant `default`, among the newest 100,000.
    fn default() -> Self {
        Self {
            tenant: "default".into(),
            flow: None,
            version: None,
            state: None,
            name: None,
            metadata: None,
            since: None,
            until: None,
            parent: None,
            dismissed: false,
            before: None,
            limit: 50,
            look: 100_000,
        }
    }
}

impl<E: Executor> Calls<E> {
    /// Runs, newest first. Of a page that [`RunFilter::look`] has cut short, what was found: [`find_runs`](Self::find_runs) tells.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Vec<RunInfo>> {
        Ok(self.find_runs(filter).await?.runs)
    }

    /// Runs, newest first, and whether older ones are still to be looked at.
    pub async fn find_runs(&self, filter: &RunFilter) -> Result<RunPage> {
        let sql = format!(
            "select f.looked_to, {RUN_COLUMNS}
             from longhaul.find_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) with ordinality f(found, looked_to, place)
             left join lateral (select * from longhaul.runs r where r.id = f.found offset 0) r on true
             order by f.place"
        );
        let rows = self.matching(&sql, filter).await?;
        let looked_to = rows.last().map(|row| row.try_get("looked_to")).transpose()?.flatten();
        let found = &rows[..rows.len() - usize::from(looked_to.is_some())];
        Ok(RunPage { runs: readable(found, run_info)?, looked_to })
    }

    /// Ids of runs, newest first, and where to go on when [`RunFilter::look`] was used up: for acts on many runs, whose inputs are not
    /// wanted.
    pub async fn find_run_ids(&self, filter: &RunFilter) -> Result<(Vec<Uuid>, Option<Uuid>)> {
        let sql = "select f.found, f.looked_to
                   from longhaul.find_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) with ordinality f(found, looked_to, place)
                   order by f.place";
        let rows = self.matching(sql, filter).await?;
        let looked_to = rows.last().map(|row| row.try_get("looked_to")).transpose()?.flatten();
        let found = &rows[..rows.len() - usize::from(looked_to.is_some())];
        Ok((readable(found, |row| row.try_get("found"))?, looked_to))
    }

    /// Ids of runs that begin and end with these hexadecimal digits, newest first; at most `limit`.
    pub async fn runs_like(&self, tenant: &str, prefix: &str, tail: &str, limit: i32) -> Result<Vec<Uuid>> {
        let rows = self.rows("select longhaul.runs_like($1, $2, $3, $4)", &[&tenant, &prefix, &tail, &limit]).await?;
        readable(&rows, |row| row.try_get(0))
    }

    /// Asks a statement whose parameters are those of `find_runs()`.
    async fn matching(&self, sql: &str, filter: &RunFilter) -> Result<Vec<Row>> {
        let state = filter.state.map(RunState::as_str);
        let metadata = filter.metadata.as_ref().map(|m| Json(m.raw()));
        self.rows(
            sql,
            &[
                &filter.tenant,
                &filter.flow,
                &filter.version,
                &state,
                &filter.name,
                &metadata,
                &filter.since,
                &filter.until,
                &filter.parent,
                &filter.dismissed,
                &filter.before,
                &filter.limit,
                &filter.look,
            ],
        )
        .await
    }
}
