//! Steps that used up their attempts.

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error, Payload,
    calls::{self, DeadLetterFilter},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    caller::Reader,
    extract::{Json, Query},
    page,
    problem::Problem,
};

/// A step that used up its attempts.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetter {
    /// Its run.
    run: Uuid,
    /// Its flow.
    flow: String,
    /// Version of the flow.
    version: i32,
    /// Its name.
    step: String,
    /// Its handler.
    handler: Option<String>,
    /// When it failed.
    died_at: DateTime<Utc>,
    /// Number of the last attempt.
    attempt: Option<i32>,
    /// The last error.
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Payload>,
    /// The state of its run.
    run_state: String,
}

/// Which dead letters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this flow.
    flow: Option<String>,
    /// Of this step.
    step: Option<String>,
    /// Of this handler.
    handler: Option<String>,
    /// Of this run.
    run: Option<Uuid>,
    /// Whose message is like this; % stands for any text.
    message: Option<String>,
    /// That died at this time or later: for the next page, `died_at` of the last one.
    since: Option<DateTime<Utc>>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// Dead letters, the oldest first.
#[utoipa::path(get, path = "/dead-letters", tag = "dead letters", params(Which), responses((status = 200, body = [DeadLetter]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<Vec<DeadLetter>>, Problem> {
    let filter = DeadLetterFilter {
        flow: which.flow,
        step: which.step,
        handler: which.handler,
        run_id: which.run,
        message: which.message,
        since: which.since,
        limit: i32::try_from(page::limit(which.limit)?).unwrap_or(i32::MAX),
        ..DeadLetterFilter::of("")
    };
    let dead = |d: calls::DeadLetter| DeadLetter {
        run: d.run_id,
        flow: d.flow,
        version: d.version,
        step: d.step,
        handler: d.handler,
        died_at: d.died_at,
        attempt: d.attempt,
        error: d.error,
        run_state: d.run_state,
    };
    Ok(Json(reader.client.dead_letters(&filter).await?.into_iter().map(dead).collect()))
}

/// Which dead letters something is done to.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    /// Of this flow.
    flow: Option<String>,
    /// Of this step.
    step: Option<String>,
    /// Of this handler.
    handler: Option<String>,
    /// Of this run.
    run: Option<Uuid>,
    /// Whose message is like this; % stands for any text.
    message: Option<String>,
    /// That died at this time or later.
    since: Option<DateTime<Utc>>,
    /// All of them: needed when nothing else says which.
    #[serde(default)]
    all: bool,
    /// At most so many, the oldest first, 1 to 10000; 1000 by default.
    limit: Option<i32>,
    /// Only tell how many and which.
    #[serde(default)]
    pub(super) dry_run: bool,
}

impl Chosen {
    pub(super) fn filter(&self) -> Result<DeadLetterFilter, Problem> {
        let limit = self.limit.unwrap_or(1000);
        if !(1..=10_000).contains(&limit) {
            return Err(Problem::invalid(format!("limit is 1 to 10000, not {limit}")));
        }
        let said = self.flow.is_some()
            || self.step.is_some()
            || self.handler.is_some()
            || self.run.is_some()
            || self.message.is_some()
            || self.since.is_some();
        if !said && !self.all {
            return Err(Problem::invalid("say which dead letters, or all: true"));
        }
        Ok(DeadLetterFilter {
            flow: self.flow.clone(),
            step: self.step.clone(),
            handler: self.handler.clone(),
            run_id: self.run,
            message: self.message.clone(),
            since: self.since,
            limit,
            ..DeadLetterFilter::of("")
        })
    }
}

/// Dead letters that died of the same.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Group {
    /// Their flow.
    flow: String,
    /// Their step.
    step: String,
    /// Their handler.
    handler: Option<String>,
    /// What went wrong.
    message: Option<String>,
    /// How many.
    count: i64,
    /// When the first of them failed.
    first: DateTime<Utc>,
    /// When the last of them failed.
    last: DateTime<Utc>,
    /// Five of their runs, the oldest first.
    runs: Vec<Uuid>,
}

/// So many dead letters are put into groups.
const GROUPED: i32 = 10_000;

/// The dead letters of a tenant by what they died of.
pub(in super::super) async fn grouped(client: &Client) -> Result<Vec<Group>, Error> {
    let database = client.database();
    let filter = DeadLetterFilter { limit: GROUPED, ..DeadLetterFilter::of(database.tenant()) };
    let filter = &filter;
    let groups = database.retrying(|calls| async move { calls.dead_letter_groups(filter).await }).await?;
    let group = |g: calls::DeadLetterGroup| Group {
        flow: g.flow,
        step: g.step,
        handler: g.handler,
        message: g.message,
        count: g.count,
        first: g.first,
        last: g.last,
        runs: g.runs,
    };
    Ok(groups.into_iter().map(group).collect())
}

/// Dead letters by flow, step and error, the most frequent first; of the oldest 10,000.
#[utoipa::path(get, path = "/dead-letters/groups", tag = "dead letters", responses((status = 200, body = [Group]), (status = "default", body = Problem)))]
pub(super) async fn groups(reader: Reader) -> Result<Json<Vec<Group>>, Problem> {
    Ok(Json(grouped(&reader.client).await?))
}
