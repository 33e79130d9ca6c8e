//! Lists of runs.

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Payload,
    calls::{RunFilter, RunInfo, RunState},
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

/// A run.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Run {
    /// Id.
    id: Uuid,
    /// Flow.
    flow: String,
    /// Version of the flow.
    version: i32,
    /// Name for people.
    name: Option<String>,
    /// pending, running, paused, completed, failed or cancelled.
    #[schema(value_type = String)]
    state: RunState,
    /// When it was started.
    created_at: DateTime<Utc>,
    /// Before this time it is pending.
    start_at: Option<DateTime<Utc>>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
    /// Steps of its flow.
    steps_total: i32,
    /// Steps that have not ended.
    steps_open: i32,
    /// Raised by every change of the run.
    revision: i32,
    /// Its input.
    #[schema(value_type = serde_json::Value)]
    input: Payload,
    /// Why it failed.
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Payload>,
    /// An object of the user's.
    #[schema(value_type = Option<serde_json::Value>)]
    metadata: Option<Payload>,
    /// Why it is paused: operator or question.
    paused_for: Option<String>,
    /// Whether it failed and its completed steps were undone.
    compensated: bool,
    /// Since when it is left out of lists.
    dismissed_at: Option<DateTime<Utc>>,
    /// The run that started it as a child.
    parent: Option<Uuid>,
    /// The run that it was forked from.
    forked_from: Option<Uuid>,
}

impl From<RunInfo> for Run {
    fn from(run: RunInfo) -> Self {
        Self {
            id: run.id,
            flow: run.flow,
            version: run.version,
            name: run.name,
            state: run.state,
            created_at: run.created_at,
            start_at: run.start_at,
            ended_at: run.ended_at,
            steps_total: run.steps,
            steps_open: run.open_steps,
            revision: run.revision,
            input: run.input,
            error: run.error,
            metadata: run.metadata,
            paused_for: run.paused_for,
            compensated: run.compensated,
            dismissed_at: run.dismissed_at,
            parent: run.parent_id,
            forked_from: run.forked_from,
        }
    }
}

/// A page of runs, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct RunPage {
    /// The runs. A page may hold fewer than were asked for and not be the last one: only so many runs are looked at for it.
    runs: Vec<Run>,
    /// What to give as `after` for the next page; null: there is none.
    next: Option<Uuid>,
}

/// So many runs are looked at for a page: few enough for a quick answer whatever the filter, and `next` goes on from there.
const LOOK: i64 = 20_000;

/// Which runs. Filters are joined by and.
#[derive(Default, Deserialize, Serialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = RunFilter)]
pub(super) struct Which {
    /// In this state: pending, running, paused, completed, failed or cancelled; live stands for the first three.
    state: Option<String>,
    /// Of this flow.
    flow: Option<String>,
    /// Of this version of the flow.
    version: Option<i32>,
    /// With this name; % stands for any text.
    name: Option<String>,
    /// Whose flow has steps in this queue.
    queue: Option<String>,
    /// That have this key of a unique start.
    key: Option<String>,
    /// Whose id begins so.
    id: Option<String>,
    /// In whose error this text stands, in upper or lower case.
    error: Option<String>,
    /// Whose metadata contains this JSON object.
    metadata: Option<String>,
    /// Children of this run.
    parent: Option<Uuid>,
    /// Created at this time or later.
    started_after: Option<DateTime<Utc>>,
    /// Created before this time.
    started_before: Option<DateTime<Utc>>,
    /// Dismissed runs as well.
    dismissed: Option<bool>,
    /// Behind this run: `next` of the page before.
    after: Option<Uuid>,
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

impl Which {
    /// Whether it says how many.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    pub(super) fn filter(self) -> Result<RunFilter, Problem> {
        let live = self.state.as_deref() == Some("live");
        Ok(RunFilter {
            state: self.state.filter(|_| !live).map(|state| state.parse()).transpose()?,
            live,
            flow: self.flow,
            version: self.version,
            name: self.name,
            queue: self.queue,
            key: self.key,
            id_prefix: self.id,
            error: self.error,
            metadata: self.metadata.map(|metadata| Payload::from_text(&metadata)).transpose()?,
            parent: self.parent,
            since: self.started_after,
            until: self.started_before,
            dismissed: self.dismissed.unwrap_or_default(),
            before: self.after,
            limit: page::limit(self.limit)?,
            look: LOOK,
            ..RunFilter::default()
        })
    }
}

/// Runs, the newest first.
#[utoipa::path(get, path = "/runs", tag = "runs", params(Which), responses((status = 200, body = RunPage), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<RunPage>, Problem> {
    let filter = which.filter()?;
    let page = reader.client.find(&filter).await?;
    let full = i64::try_from(page.runs.len()).is_ok_and(|found| found >= filter.limit);
    let next = page.looked_to.or_else(|| page.runs.last().filter(|_| full).map(|run| run.id));
    Ok(Json(RunPage { runs: page.runs.into_iter().map(Run::from).collect(), next }))
}
