//! Retention: policies, their plan, deletion, archives, statistics.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, RunState, json};
use crate::{Error, Payload, Result};

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

impl<E: Executor> Calls<E> {
    /// Makes or changes a policy.
    pub async fn put_retention_policy(&self, tenant: &str, policy: &RetentionPolicy) -> Result<()> {
        let state = policy.state.map(RunState::as_str);
        self.run(
            "select longhaul.put_retention_policy($1, $2, make_interval(secs => $3), $4, $5, $6, $7)",
            &[
                &tenant,
                &policy.name,
                &policy.age.as_secs_f64(),
                &state,
                &policy.flow,
                &policy.keep_last,
                &policy.archive,
            ],
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
        rows.iter()
            .map(|row| {
                Ok(RetentionPolicy {
                    name: row.get("name"),
                    state: row.get::<_, Option<&str>>("state").map(str::parse).transpose()?,
                    flow: row.get("flow"),
                    age: Duration::try_from_secs_f64(row.get("seconds"))
                        .map_err(|e| Error::Corrupt(format!("the age of a policy: {e}")))?,
                    keep_last: row.get("keep_last"),
                    archive: row.get("archive"),
                })
            })
            .collect()
    }

    /// What the policies would delete now.
    pub async fn retention_plan(&self, tenant: &str) -> Result<Vec<RetentionPlan>> {
        let rows = self.rows("select * from longhaul.retention_plan($1)", &[&tenant]).await?;
        Ok(rows
            .iter()
            .map(|row| RetentionPlan {
                policy: row.get("policy"),
                runs: row.get("runs"),
                oldest: row.get("oldest"),
                newest: row.get("newest"),
                archive: row.get("archive"),
                complete: row.get("complete"),
            })
            .collect())
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
        Ok(RetentionPage { runs: row.get("runs"), next: row.get("next"), kept: json(&row, "kept") })
    }

    /// Up to so many runs that the policies would delete now. Looks through all of the history, if need be.
    pub async fn retention_candidates(&self, tenant: &str, limit: i32) -> Result<Vec<Uuid>> {
        let rows = self.rows("select run_id from longhaul.retention_candidates($1, $2)", &[&tenant, &limit]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Deletes ended runs with all that belongs to them. Returns how many; what is alive, what a live run can need, and what is to stand
    /// in an archive before stays.
    pub async fn delete_runs(&self, runs: &[Uuid]) -> Result<i64> {
        Ok(self.row("select longhaul.delete_runs($1)", &[&runs]).await?.get(0))
    }

    /// Deletes runs that stand in an archive, but for those that have changed since. Returns how many.
    pub async fn delete_archived_runs(&self, runs: &[ArchivedRun]) -> Result<i64> {
        let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
        let revisions: Vec<i32> = runs.iter().map(|run| run.revision).collect();
        Ok(self.row("select longhaul.delete_runs($1, $2)", &[&ids, &revisions]).await?.get(0))
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
        let runs = rows.iter().filter_map(|row| {
            json(row, "run").map(|run| ArchivedRun { id: row.get("id"), revision: row.get("revision"), run })
        });
        Ok(runs.collect())
    }

    /// All that is known of some runs, one JSON object each.
    pub async fn archived_runs(&self, runs: &[Uuid]) -> Result<Vec<Payload>> {
        Ok(self.runs_to_archive(runs).await?.into_iter().map(|archived| archived.run).collect())
    }

    /// How many runs and signals of a tenant there are, by age.
    pub async fn retention_stats(&self, tenant: &str) -> Result<Vec<AgeFigures>> {
        let rows = self.rows("select * from longhaul.retention_stats($1)", &[&tenant]).await?;
        Ok(rows
            .iter()
            .map(|row| AgeFigures {
                kind: row.get("kind"),
                total: row.get("total"),
                last_24h: row.get("last_24h"),
                last_7d: row.get("last_7d"),
                last_30d: row.get("last_30d"),
                older: row.get("older"),
                oldest: row.get("oldest"),
                newest: row.get("newest"),
                estimated: row.get("estimated"),
            })
            .collect())
    }
}
