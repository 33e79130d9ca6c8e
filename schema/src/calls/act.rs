//! What operators did through the HTTP API.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Calls, Executor, readable};
use crate::{Payload, Result};

/// Something that an operator begins to do.
#[derive(Clone, Debug)]
pub struct NewAct<'a> {
    /// A UUIDv7.
    pub id: Uuid,
    /// For which tenant.
    pub tenant: &'a str,
    /// By whom.
    pub by: &'a str,
    /// What.
    pub act: &'a str,
    /// To what.
    pub target: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
    /// With what.
    pub detail: Option<&'a Payload>,
    /// The state before.
    pub before: Option<&'a Payload>,
}

/// Something that an operator did.
#[derive(Clone, Debug)]
pub struct ActInfo {
    /// A UUIDv7.
    pub id: Uuid,
    /// When it began.
    pub at: DateTime<Utc>,
    /// By whom.
    pub actor: String,
    /// What.
    pub act: String,
    /// To what.
    pub target: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// With what.
    pub detail: Option<Payload>,
    /// The state before.
    pub before: Option<Payload>,
    /// `done`, `refused` or `failed`; `None`: it is being done, or nobody knows.
    pub outcome: Option<String>,
    /// The state after.
    pub after: Option<Payload>,
    /// Why it was refused or failed.
    pub error: Option<String>,
}

/// Which acts.
#[derive(Clone, Debug, Default)]
pub struct ActFilter {
    /// By this person.
    pub actor: Option<String>,
    /// Of this kind.
    pub act: Option<String>,
    /// To this.
    pub target: Option<String>,
    /// Before this one: the last of the page before.
    pub before: Option<Uuid>,
    /// At most so many, of the newest 100,000.
    pub limit: i64,
}

impl<E: Executor> Calls<E> {
    /// Writes down that an operator begins to do something.
    pub async fn begin_act(&self, act: &NewAct<'_>) -> Result<()> {
        let json = |payload: Option<&Payload>| payload.map(|p| Json(p.raw().to_owned()));
        self.run(
            "select longhaul.begin_act($1, $2, $3, $4, $5, $6, $7, $8)",
            &[&act.id, &act.tenant, &act.by, &act.act, &act.target, &act.reason, &json(act.detail), &json(act.before)],
        )
        .await
    }

    /// Writes down what came of it: `done`, `refused` or `failed`.
    pub async fn end_act(&self, id: Uuid, outcome: &str, after: Option<&Payload>, error: Option<&str>) -> Result<()> {
        let after = after.map(|p| Json(p.raw()));
        self.run("select longhaul.end_act($1, $2, $3, $4)", &[&id, &outcome, &after, &error]).await
    }

    /// What operators of a tenant did, the latest first.
    pub async fn list_acts(&self, tenant: &str, filter: &ActFilter) -> Result<Vec<ActInfo>> {
        let rows = self
            .rows(
                "select a.id, a.at, a.actor, a.act, a.target, a.reason, a.detail, a.before, a.outcome, a.after, a.error
                 from (select x.* from longhaul.operator_acts x where $5::uuid is null or x.id < $5 order by x.id desc limit 100000) a
                 where a.tenant = $1 and ($2::text is null or a.actor = $2) and ($3::text is null or a.act = $3) and ($4::text is null or a.target = $4)
                 order by a.id desc limit $6",
                &[&tenant, &filter.actor, &filter.act, &filter.target, &filter.before, &filter.limit],
            )
            .await?;
        readable(&rows, |row| {
            Ok(ActInfo {
                id: row.try_get("id")?,
                at: row.try_get("at")?,
                actor: row.try_get("actor")?,
                act: row.try_get("act")?,
                target: row.try_get("target")?,
                reason: row.try_get("reason")?,
                detail: row.try_get("detail")?,
                before: row.try_get("before")?,
                outcome: row.try_get("outcome")?,
                after: row.try_get("after")?,
                error: row.try_get("error")?,
            })
        })
    }
}
