//! Retention: policies, their plan, deletion, archives, statistics.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, RunState, readable};
use crate::{Payload, Result, duration::seconds};

/// Which ended runs are deleted.
#[derive(Clone, Debug)]
pub struct RetentionPolicy {
    /// Its name.
    pub name: String,
    /// Runs of this final state; of any when `None`.
    pub state: Option<RunState>,
    /// Runs of this flow; of any when `None`.
    pub flow: Option<String>,
    /// That ended longer ago than this.
    pub age: Duration,
    /// But for the last so many of each flow.
    pub keep_last: i32,
    /// Only by `longhaul retention run --archive`, which writes them to an archive before: schedulers leave them alone.
    pub archive: bool,
}

/// Some runs that a policy would delete now; the next page goes on from here.
#[derive(Clone, Debug, Default)]
pub struct RetentionPage {
    /// The runs.
    pub runs: Vec<Uuid>,
    /// How far the history has been looked at; `None`: to its end.
    pub next: Option<Uuid>,
    /// How many of each flow were passed over because they are to be kept.
    pub kept: Option<Payload>,
}

/// A run as it goes to an archive.
#[derive(Clone, Debug)]
pub struct ArchivedRun {
    /// Its id.
    pub id: Uuid,
    /// Its revision: it is deleted only if that is still the same.
    pub revision: i32,
    /// All that is known of it, as one JSON object.
    pub run: Payload,
}

/// What a policy would delete now.
#[derive(Clone, Debug)]
pub struct RetentionPlan {
    /// The policy.
    pub policy: String,
    /// How many runs.
    pub runs: i64,
    /// When the oldest of them ended.
    pub oldest: Option<DateTime<Utc>>,
    /// When the newest of them ended.
    pub newest: Option<DateTime<Utc>>,
    /// Whether they are to stand in an archive before.
    pub archive: bool,
    /// False: there are more; only the newest million runs were looked at.
    pub complete: bool,
}

/// How many there are, by age.
#[derive(Clone, Debug)]
pub struct AgeFigures {
    /// `runs` or `signals`.
    pub kind: String,
    /// In all.
    pub total: i64,
    /// Of the last 24 hours.
    pub last_24h: i64,
    /// Of the last 7 days.
    pub last_7d: i64,
    /// Of the last 30 days.
    pub last_30d: i64,
    /// Older than that.
    pub older: i64,
    /// The oldest.
    pub oldest: Option<DateTime<Utc>>,
    /// The newest.
    pub newest: Option<DateTime<Utc>>,
    /// Whether the figures are estimated from a part, because there is very much.
    pub estimated: bool,
}

/// An interval is an age, however long or odd it is.
fn age(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 { Duration::MAX } else { Duration::ZERO })
}

impl<E: Executor> Calls<E> {
    /// Makes or changes a policy.
    pub async fn put_retention_policy(&self, tenant: &str, policy: &RetentionPolicy) -> Result<()> {
        let state = policy.state.map(RunState::as_str);
        self.run(
            "select longhaul.put_retention_policy($1, $2, make_interval(secs => $3), $4, $5, $6, $7)",
            &[&tenant, &policy.name, &seconds(policy.age), &state, &policy.flow, &policy.keep_last, &policy.archive],
        )
        .await
    }

    /// Deletes a policy.
    pub async fn delete_retention_policy(&self, tenant: &str, name: &str) -> Result<()> {
        self.run("select longhaul.delete_retention_policy($1, $2)", &[&tenant, &name]).await
    }

    /// The policies of a tenant, in the order in which they are applied.
    pub async fn list_retention_policies(&self, tenant: &str) -> Result<Vec<RetentionPolicy>> {
        let rows = self
            .rows(
                "select name, state::text, flow, extract(epoch from age)::float8 as seconds, keep_last, archive from longhaul.retention_policy
                 where tenant = $1 order by id",
                &[&tenant],
            )
            .await?;
        readable(&rows, |row| {
            Ok(RetentionPolicy {
                name: row.try_get("name")?,
                state: row.try_get("state")?,
                flow: row.try_get("flow")?,
                age: age(row.try_get("seconds")?),
                keep_last: row.try_get("keep_last")?,
                archive: row.try_get("archive")?,
            })
        })
    }

    /// What the policies would delete now.
    pub async fn retention_plan(&self, tenant: &str) -> Result<Vec<RetentionPlan>> {
        let rows = self.rows("select * from longhaul.retention_plan($1)", &[&tenant]).await?;
        readable(&rows, |row| {
            Ok(RetentionPlan {
                policy: row.try_get("policy")?,
                runs: row.try_get("runs")?,
                oldest: row.try_get("oldest")?,
                newest: row.try_get("newest")?,
                archive: row.try_get("archive")?,
                complete: row.try_get("complete")?,
            })
        })
    }

    /// The next runs that a policy would delete now, at most `limit`, behind the page before. With `archive` also those that are to stand
    /// in an archive first. Looks at 100,000 runs at most: a page may be empty, and not the last one.
    pub async fn retention_page(
        &self,
        tenant: &str,
        policy: &str,
        before: &RetentionPage,
        archive: bool,
        limit: i32,
    ) -> Result<RetentionPage> {
        let kept = before.kept.as_ref().map(|kept| Json(kept.raw()));
        let row = self
            .row(
                "select runs, next, kept from longhaul.retention_page($1, $2, $3, $4, $5, $6)",
                &[&tenant, &policy, &before.next, &kept, &archive, &limit],
            )
            .await?;
        Ok(RetentionPage { runs: row.try_get("runs")?, next: row.try_get("next")?, kept: row.try_get("kept")? })
    }

    /// Up to so many runs that the policies would delete now. Looks through all of the history, if need be.
    pub async fn retention_candidates(&self, tenant: &str, limit: i32) -> Result<Vec<Uuid>> {
        let rows = self.rows("select run_id from longhaul.retention_candidates($1, $2)", &[&tenant, &limit]).await?;
        readable(&rows, |row| row.try_get(0))
    }

    /// Deletes ended runs with all that belongs to them. Returns how many; what is alive, what a live run can need, and what is to stand
    /// in an archive before stays.
    pub async fn delete_runs(&self, runs: &[Uuid]) -> Result<i64> {
        self.row("select longhaul.delete_runs($1)", &[&runs]).await?.try_get(0)
    }

    /// Deletes runs that stand in an archive, but for those that have changed since. Returns how many.
    pub async fn delete_archived_runs(&self, runs: &[ArchivedRun]) -> Result<i64> {
        let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
        let revisions: Vec<i32> = runs.iter().map(|run| run.revision).collect();
        self.row("select longhaul.delete_runs($1, $2)", &[&ids, &revisions]).await?.try_get(0)
    }

    /// Some runs with all that is known of them. Those that are gone are left out.
    pub async fn runs_to_archive(&self, runs: &[Uuid]) -> Result<Vec<ArchivedRun>> {
        let rows = self
            .rows(
                "select i.id, a.run, (a.run ->> 'revision')::int as revision
                 from unnest($1::uuid[]) i(id) cross join lateral (select longhaul.archived_run(i.id) as run offset 0) a
                 where a.run is not null order by i.id",
                &[&runs],
            )
            .await?;
        readable(&rows, |row| {
            Ok(ArchivedRun { id: row.try_get("id")?, revision: row.try_get("revision")?, run: row.try_get("run")? })
        })
    }

    /// All that is known of some runs, one JSON object each.
    pub async fn archived_runs(&self, runs: &[Uuid]) -> Result<Vec<Payload>> {
        Ok(self.runs_to_archive(runs).await?.into_iter().map(|archived| archived.run).collect())
    }

    /// How many runs and signals of a tenant there are, by age.
    pub async fn retention_stats(&self, tenant: &str) -> Result<Vec<AgeFigures>> {
        let rows = self.rows("select * from longhaul.retention_stats($1)", &[&tenant]).await?;
        readable(&rows, |row| {
            Ok(AgeFigures {
                kind: row.try_get("kind")?,
                total: row.try_get("total")?,
                last_24h: row.try_get("last_24h")?,
                last_7d: row.try_get("last_7d")?,
                last_30d: row.try_get("last_30d")?,
                older: row.try_get("older")?,
                oldest: row.try_get("oldest")?,
                newest: row.try_get("newest")?,
                estimated: row.try_get("estimated")?,
            })
        })
    }
}
