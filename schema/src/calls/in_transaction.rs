//! Calls in a transaction of the caller's, whatever driver it is of.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AttemptKey, Calls, Executor, NewRun, NotStarted, RefusedAttempt, StartRuns};
use crate::{Error, Payload, Result, SchemaName, duration::millis};

/// A transaction of the caller's, in which runs are started or a step is completed:
///
/// - of `tokio_postgres`, or of a connection of the pool: `&transaction`;
/// - of `sqlx`, with the feature `sqlx`: `&mut transaction` or `&mut connection`;
/// - of any other driver: `&mut` something that implements [`JsonStatement`].
pub trait InTransaction: Send {
    /// Starts runs. Returns those that were not started.
    fn start_runs(
        &mut self,
        schema: &SchemaName,
        batch: StartRuns<'_>,
    ) -> impl Future<Output = Result<Vec<NotStarted>>> + Send;

    /// Completes a step. Returns why not, if it was refused.
    fn complete_step(
        &mut self,
        schema: &SchemaName,
        worker: i64,
        key: AttemptKey,
        output: Payload,
    ) -> impl Future<Output = Result<Option<RefusedAttempt>>> + Send;
}

impl<E: Executor> InTransaction for &E {
    async fn start_runs(&mut self, schema: &SchemaName, batch: StartRuns<'_>) -> Result<Vec<NotStarted>> {
        Calls::on(*self, schema.clone()).start_runs(batch).await
    }

    async fn complete_step(
        &mut self,
        schema: &SchemaName,
        worker: i64,
        key: AttemptKey,
        output: Payload,
    ) -> Result<Option<RefusedAttempt>> {
        let refused = Calls::on(*self, schema.clone()).complete(worker, &[(key, output)]).await?;
        Ok(refused.into_iter().next())
    }
}

/// A transaction of another driver: it can run a statement with one parameter, a text, and read the one text that this gives.
///
/// ```
/// use longhaul_schema::{Error, Result, calls::JsonStatement};
///
/// /// What your driver has.
/// struct Transaction;
/// # impl Transaction { async fn query_one(&mut self, _: &str, _: &str) -> std::result::Result<String, std::io::Error> { Ok("[]".into()) } }
///
/// struct Mine(Transaction);
///
/// impl JsonStatement for Mine {
///     async fn json(&mut self, sql: &str, parameter: &str) -> Result<String> {
///         self.0.query_one(sql, parameter).await.map_err(|error| Error::Driver(error.into()))
///     }
/// }
/// ```
pub trait JsonStatement: Send {
    /// Runs a statement whose `$1` is this text, and gives the text in the one column of its one row.
    fn json(&mut self, sql: &str, parameter: &str) -> impl Future<Output = Result<String>> + Send;
}

/// As [`Calls::start_runs`], with everything in one JSON text.
const START: &str = "
    select coalesce(json_agg(s), '[]')::text
    from (select $1::text::jsonb as a) given
    cross join lateral longhaul.start_runs(
      a ->> 'tenant', a ->> 'flow', (a ->> 'version')::integer,
      array(select (r ->> 'id')::uuid from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      array(select r -> 'input' from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      array(select r ->> 'name' from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      array(select (r ->> 'priority')::integer from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      array(select (r ->> 'start_at')::timestamptz from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      array(select (r ->> 'delay_ms')::bigint from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      array(select r -> 'metadata' from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      p_deadlines_ms => array(select (r ->> 'deadline_ms')::bigint from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      p_keys => array(select r ->> 'key' from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      p_windows_ms => array(select (r ->> 'window_ms')::bigint from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n),
      p_create_only => array(select (r ->> 'create_only')::boolean from jsonb_array_elements(a -> 'runs') with ordinality e(r, n) order by n)
    ) s";

/// As [`Calls::complete`], of one step, with everything in one JSON text.
const COMPLETE: &str = "
    select coalesce((
      select json_agg(c)
      from longhaul.complete(
        (a ->> 'worker')::bigint, array[(a ->> 'run')::uuid], array[(a ->> 'seq')::integer], array[(a ->> 'attempt')::integer],
        array[a -> 'output'], false) c), '[]')::text
    from (select $1::text::jsonb as a) given";

#[derive(Serialize)]
struct Start<'a> {
    tenant: &'a str,
    flow: &'a str,
    version: Option<i32>,
    runs: Vec<StartItem<'a>>,
}

/// What is `None` is left out: the database tells it from JSON's null.
#[derive(Serialize)]
struct StartItem<'a> {
    id: Uuid,
    input: &'a Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_at: Option<chrono::DateTime<chrono::Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_only: Option<bool>,
}

impl<'a> StartItem<'a> {
    fn of(run: &'a NewRun) -> Self {
        Self {
            id: run.id,
            input: &run.input,
            name: run.name.as_deref(),
            priority: run.priority,
            start_at: run.start_at,
            delay_ms: run.delay.map(millis),
            metadata: run.metadata.as_ref(),
            deadline_ms: run.deadline.map(millis),
            key: run.unique.as_ref().map(|(key, _)| key.as_str()),
            window_ms: run.unique.as_ref().and_then(|(_, unique)| unique.window_ms()),
            create_only: run.create_only.then_some(true),
        }
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    worker: i64,
    run: Uuid,
    seq: i32,
    attempt: i32,
    output: &'a Payload,
}

/// What the two functions answer, of what is read here.
#[derive(Deserialize)]
struct Answered {
    id: Option<Uuid>,
    run_id: Option<Uuid>,
    refusal: Option<String>,
    #[serde(default)]
    conflict: Option<bool>,
}

async fn ask(
    driver: &mut impl JsonStatement,
    schema: &SchemaName,
    sql: &str,
    parameter: &(impl Serialize + Sync),
) -> Result<Vec<Answered>> {
    let parameter = Payload::new(parameter)?;
    let answer = driver.json(&schema.qualify(sql), parameter.as_str()).await?;
    serde_json::from_str(&answer).map_err(|error| Error::Corrupt(format!("the answer cannot be read: {error}")))
}

impl<T: JsonStatement> InTransaction for &mut T {
    async fn start_runs(&mut self, schema: &SchemaName, batch: StartRuns<'_>) -> Result<Vec<NotStarted>> {
        let runs = batch.runs.iter().map(StartItem::of).collect();
        let start = Start { tenant: batch.tenant, flow: batch.flow, version: batch.version, runs };
        let answered = ask(*self, schema, START, &start).await?;
        let not_started = answered.into_iter().map(|item| NotStarted {
            id: item.id.unwrap_or_default(),
            existing: item.run_id,
            refusal: item.refusal,
            conflict: item.conflict.unwrap_or_default(),
        });
        Ok(not_started.collect())
    }

    async fn complete_step(
        &mut self,
        schema: &SchemaName,
        worker: i64,
        key: AttemptKey,
        output: Payload,
    ) -> Result<Option<RefusedAttempt>> {
        let AttemptKey { step, attempt } = key;
        let completion = Completion { worker, run: step.run_id, seq: step.seq, attempt, output: &output };
        let answered = ask(*self, schema, COMPLETE, &completion).await?;
        Ok(answered.into_iter().next().map(|item| RefusedAttempt { key, reason: item.refusal.unwrap_or_default() }))
    }
}
