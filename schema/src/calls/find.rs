//! Finding runs, newest first, at a bounded cost.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{
    Calls, Executor, Row, RunMark, RunState,
    read::{MARK_COLUMNS, RUN_COLUMNS, RunInfo, run_info, run_mark},
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
    /// Pending, running and paused ones only.
    pub live: bool,
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
    /// Whose flow has steps in this queue.
    pub queue: Option<String>,
    /// That have this key of a unique start.
    pub key: Option<String>,
    /// In whose error this text stands, in upper or lower case.
    pub error: Option<String>,
    /// Whose ids begin so: hexadecimal digits, with or without dashes. Others begin nothing.
    pub id_prefix: Option<String>,
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
            live: false,
            name: None,
            metadata: None,
            since: None,
            until: None,
            parent: None,
            queue: None,
            key: None,
            error: None,
            id_prefix: None,
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
        let (rows, looked_to) = self.found(filter, RUN_COLUMNS).await?;
        Ok(RunPage { runs: readable(&rows, run_info)?, looked_to })
    }

    /// As [`find_runs`](Self::find_runs), but only how far each run is: for acts on many.
    pub async fn find_marks(&self, filter: &RunFilter) -> Result<(Vec<RunMark>, Option<Uuid>)> {
        let (rows, looked_to) = self.found(filter, MARK_COLUMNS).await?;
        Ok((readable(&rows, run_mark)?, looked_to))
    }

    async fn found(&self, filter: &RunFilter, columns: &str) -> Result<(Vec<Row>, Option<Uuid>)> {
        let sql = format!(
            "select f.looked_to, {columns}
             from longhaul.find_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) with ordinality f(found, looked_to, place)
             left join lateral (select * from longhaul.runs r where r.id = f.found offset 0) r on true
             order by f.place"
        );
        let state = filter.state.map(RunState::as_str).or(filter.live.then_some("live"));
        let (from_id, below_id) = match &filter.id_prefix {
            None => (None, None),
            Some(prefix) => match ids_that_begin_with(prefix) {
                Some((from, below)) => (Some(from), below),
                None => return Ok((vec![], None)),
            },
        };
        let metadata = filter.metadata.as_ref().map(|m| Json(m.raw()));
        let mut rows = self
            .rows(
                &sql,
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
                    &filter.queue,
                    &filter.key,
                    &filter.error,
                    &from_id,
                    &below_id,
                ],
            )
            .await?;
        let looked_to: Option<Uuid> = rows.last().map(|row| row.try_get("looked_to")).transpose()?.flatten();
        rows.truncate(rows.len() - usize::from(looked_to.is_some()));
        Ok((rows, looked_to))
    }
}

/// The first id that begins so, and the first one behind all of them; `None` for what begins no id.
fn ids_that_begin_with(prefix: &str) -> Option<(Uuid, Option<Uuid>)> {
    let digits: String = prefix.chars().filter(|c| *c != '-').collect();
    if digits.is_empty() || digits.len() > 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let filled = |with: &str| u128::from_str_radix(&format!("{digits}{}", with.repeat(32 - digits.len())), 16).ok();
    let (first, last) = (filled("0")?, filled("f")?);
    Some((Uuid::from_u128(first), last.checked_add(1).map(Uuid::from_u128)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_of_an_id_is_a_range_of_ids() {
        let (from, below) = ids_that_begin_with("019b-C").unwrap();
        assert_eq!(from.to_string(), "019bc000-0000-0000-0000-000000000000");
        assert_eq!(below.unwrap().to_string(), "019bd000-0000-0000-0000-000000000000");
        assert_eq!(ids_that_begin_with("f").unwrap().1, None);
        for wrong in ["", "-", "xyz", "019b…", &"0".repeat(33)] {
            assert!(ids_that_begin_with(wrong).is_none(), "{wrong}");
        }
    }
}
