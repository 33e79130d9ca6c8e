//! Acts on many runs: by a filter, with a preview, a page at a time.

use futures::{StreamExt, stream};
use longhaul_schema::{
    Error, Payload,
    calls::{OperationOptions, RunFilter, RunMark, RunState},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        act::Doing,
        caller::{Caller, Operator},
        extract::Json,
        problem::Problem,
    },
    runs::Which,
    steer::Verb,
};

/// What is done with each run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum What {
    Begin,
    Pause,
    Resume,
    Stop,
    Dismiss,
    Undismiss,
    Retry,
    /// Deletes ended runs; for this the scope admin is needed.
    Delete,
}

impl What {
    fn verb(self) -> Option<Verb> {
        Some(match self {
            Self::Begin => Verb::Begin,
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Stop => Verb::Stop,
            Self::Dismiss => Verb::Dismiss,
            Self::Undismiss => Verb::Undismiss,
            Self::Retry => Verb::Retry,
            Self::Delete => return None,
        })
    }

    fn act(self) -> &'static str {
        match self {
            Self::Begin => "begin runs",
            Self::Pause => "pause runs",
            Self::Resume => "resume runs",
            Self::Stop => "stop runs",
            Self::Dismiss => "dismiss runs",
            Self::Undismiss => "undismiss runs",
            Self::Retry => "retry runs",
            Self::Delete => "delete runs",
        }
    }

    /// The states in which it may be done.
    fn states(self) -> &'static [RunState] {
        self.verb().map_or(RunState::FINAL, |verb| verb.operation(None).states())
    }

    /// A filter without a state means those that it may be done to, where that can be looked up.
    fn narrow(self, filter: &mut RunFilter) {
        if filter.state.is_some() || filter.live {
            return;
        }
        match self {
            Self::Begin => filter.state = Some(RunState::Pending),
            Self::Resume => filter.state = Some(RunState::Paused),
            Self::Pause | Self::Stop => filter.live = true,
            Self::Undismiss => filter.dismissed = true,
            Self::Dismiss | Self::Retry | Self::Delete => {}
        }
    }

    /// What takes it back.
    fn undo(self) -> Option<Self> {
        match self {
            Self::Pause => Some(Self::Resume),
            Self::Resume => Some(Self::Pause),
            Self::Dismiss => Some(Self::Undismiss),
            Self::Undismiss => Some(Self::Dismiss),
            Self::Begin | Self::Stop | Self::Retry | Self::Delete => None,
        }
    }
}

/// An act on many runs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bulk {
    /// What is done with each.
    act: What,
    /// These runs.
    runs: Option<Vec<Uuid>>,
    /// Or those that the filter of `GET /runs` finds, with the same names; `{}` finds all.
    filter: Option<Which>,
    /// Only tell how many and which.
    #[serde(default)]
    dry_run: bool,
}

/// A run that was found, and what became of it.
#[derive(Serialize, ToSchema)]
struct Found {
    /// The run.
    id: Uuid,
    /// Its flow.
    flow: String,
    /// Its name.
    name: Option<String>,
    /// Its state before.
    #[schema(value_type = String)]
    state: RunState,
}

/// A run that was refused.
#[derive(Serialize, ToSchema)]
struct Refusal {
    /// The run.
    id: Uuid,
    /// Why.
    reason: String,
}

/// What became of an act on many runs, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct BulkDone {
    /// The id of this act in the record of acts; null for a preview.
    act: Option<Uuid>,
    /// Whether nothing was done.
    dry_run: bool,
    /// How many runs it is about; of a preview, counted up to 10,000.
    matched: usize,
    /// How many of them it was done to.
    done: usize,
    /// Those that refused, up to 100, each with the reason.
    refused: Vec<Refusal>,
    /// Of a preview: the first 100 of the runs, the newest first.
    runs: Vec<Found>,
    /// There may be more: give this as `after` in the filter to go on with them.
    next: Option<Uuid>,
    /// What takes it back, if something does.
    undo: Option<What>,
}

/// The most runs that one request is about.
const MOST: i64 = 1000;

/// How far a preview counts.
const COUNTED: i64 = 10_000;

/// How many runs are shown.
const SHOWN: usize = 100;

/// How many are done at once: enough to hide the way to the database, and no more than its pool has connections.
const AT_ONCE: usize = 4;

/// Does something to many runs: to those that are named, or that a filter finds. With `dry_run` it tells how many and which, and does
/// nothing. One request is about 1000 runs at most; `next` says where to go on.
#[utoipa::path(post, path = "/runs/bulk", tag = "runs", request_body = Bulk, responses((status = 200, body = BulkDone), (status = "default", body = Problem)))]
pub(super) async fn bulk(caller: Operator, Json(bulk): Json<Bulk>) -> Result<Json<BulkDone>, Problem> {
    let what = bulk.act;
    if what == What::Delete {
        caller.needs_admin()?;
    }
    let detail = Payload::new(&json!({ "filter": bulk.filter, "runs": bulk.runs.as_ref().map(Vec::len) })).ok();
    let (found, next) = match (bulk.runs, bulk.filter) {
        (Some(ids), None) => (named(&caller, &ids).await?, None),
        (None, Some(filter)) => found(&caller, what, filter, bulk.dry_run).await?,
        _ => return Err(Problem::invalid("say runs or filter, one of the two")),
    };
    let found: Vec<RunMark> = found.into_iter().filter(|mark| what.states().contains(&mark.state)).collect();
    let mut answer = BulkDone {
        act: None,
        dry_run: bulk.dry_run,
        matched: found.len(),
        done: 0,
        refused: vec![],
        runs: vec![],
        next,
        undo: what.undo(),
    };
    if bulk.dry_run {
        let shown = found.into_iter().take(SHOWN);
        answer.runs = shown.map(|m| Found { id: m.id, flow: m.flow, name: m.name, state: m.state }).collect();
        return Ok(Json(answer));
    }
    let act = caller.begin(Doing::new(what.act()).with(&detail)).await?;
    let id = act.id();
    let result = carry_out(&caller, what, &found, id).await;
    let after = result.as_ref().map_or(
        serde_json::Value::Null,
        |(done, refused)| json!({ "matched": found.len(), "done": done, "refused": refused.len() }),
    );
    let (done, refused) = act.end(result, after).await?;
    let refused = refused.into_iter().take(SHOWN).map(|(id, reason)| Refusal { id, reason }).collect();
    Ok(Json(BulkDone { act: Some(id), done, refused, ..answer }))
}

async fn named(caller: &Caller, ids: &[Uuid]) -> Result<Vec<RunMark>, Problem> {
    if ids.len() > MOST as usize {
        return Err(Problem::invalid(format!("one request is about {MOST} runs at most, not {}", ids.len())));
    }
    let database = caller.client.database();
    let tenant = database.tenant();
    let marks = database.retrying(|calls| async move { calls.run_marks(tenant, ids).await }).await?;
    match ids.iter().find(|id| !marks.iter().any(|mark| mark.id == **id)) {
        Some(id) => Err(Problem::not_found(format!("there is no run {id} for tenant {tenant}"))),
        None => Ok(marks),
    }
}

async fn found(
    caller: &Caller,
    what: What,
    which: Which,
    dry_run: bool,
) -> Result<(Vec<RunMark>, Option<Uuid>), Problem> {
    let limited = which.is_limited();
    let mut filter = which.filter()?;
    if !limited {
        filter.limit = if dry_run { COUNTED } else { MOST };
    }
    // Whoever acts on many has time: a preview that stops early says too little.
    filter.look = RunFilter::default().look;
    what.narrow(&mut filter);
    let database = caller.client.database();
    let filter = &RunFilter { tenant: database.tenant().into(), ..filter };
    let (marks, looked_to) = database.retrying(|calls| async move { calls.find_marks(filter).await }).await?;
    let full = i64::try_from(marks.len()).is_ok_and(|found| found >= filter.limit);
    let next = looked_to.or_else(|| marks.last().filter(|_| full).map(|mark| mark.id));
    Ok((marks, next))
}

type Outcome = (usize, Vec<(Uuid, String)>);

/// Each run for itself: one that refuses keeps nobody. The database being away ends it; asked again under the same key, it goes on.
async fn carry_out(caller: &Caller, what: What, found: &[RunMark], act: Uuid) -> Result<Outcome, Error> {
    let Some(verb) = what.verb() else {
        let ids: Vec<Uuid> = found.iter().map(|mark| mark.id).collect();
        let deleted = caller.client.database().calls().await?.delete_runs(&ids).await?;
        return Ok((usize::try_from(deleted).unwrap_or_default(), vec![]));
    };
    let ids: Vec<Uuid> = found.iter().map(|mark| mark.id).collect();
    let acts = ids.into_iter().map(|id| {
        let options =
            OperationOptions { by: Some(caller.who.clone()), request: Some(act), ..OperationOptions::default() };
        let client = caller.client.clone();
        async move { (id, client.run(id).operate(verb.operation(None), options).await) }
    });
    let mut acts = stream::iter(acts).buffered(AT_ONCE);
    let (mut done, mut refused) = (0, Vec::new());
    while let Some((id, result)) = acts.next().await {
        match result {
            Ok(_) => done += 1,
            Err(error @ (Error::Refused(_) | Error::NotFound(_) | Error::Conflict(_))) => {
                refused.push((id, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((done, refused))
}
