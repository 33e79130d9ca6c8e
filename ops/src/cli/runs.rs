//! `list`, `show`, `wait`: reading runs.

use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::Cell;
use longhaul_scheduler::Client;
use longhaul_schema::{
    Payload, Span,
    calls::{RunFilter, RunInfo, RunState, StepInfo},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Context, Failure,
    output::{optional_time, state, time},
    start::FOREVER,
};

/// Options of `list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul list --flow order --state failed
  longhaul list --limit 1000 --json | jq -r .id
  longhaul list --before 019b…       the page after the one that ended there")]
pub(super) struct List {
    /// Runs of this flow only.
    #[arg(long)]
    flow: Option<String>,
    /// Runs in this state only: pending, running, paused, completed, failed or cancelled.
    #[arg(long)]
    state: Option<RunState>,
    /// Runs older than this one only.
    #[arg(long, value_name = "RUN")]
    before: Option<Uuid>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = RunFilter {
            flow: self.flow,
            state: self.state,
            before: self.before,
            limit: i64::from(self.limit),
            ..RunFilter::default()
        };
        let runs = context.connection.client().await?.list(&filter).await?;
        if context.output.json {
            for run in &runs {
                context.output.json(&run_json(run));
            }
            return Ok(());
        }
        let rows = runs.iter().map(|run| {
            vec![
                Cell::new(run.id),
                Cell::new(format!("{} v{}", run.flow, run.version)),
                state(run.state.as_str()),
                Cell::new(format!("{}/{}", run.steps - run.open_steps, run.steps)),
                Cell::new(time(run.created_at)),
                Cell::new(optional_time(run.ended_at)),
                Cell::new(run.name.as_deref().unwrap_or_default()),
            ]
        });
        context.output.table(&["RUN", "FLOW", "STATE", "DONE", "STARTED", "ENDED", "NAME"], rows.collect());
        Ok(())
    }
}

/// Options of `show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Id of the run.
    run: Uuid,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let run = client.get(self.run).await?;
        let steps = client.steps(self.run).await?;
        let attempts = client.attempts(self.run).await?;
        let mut reasons = Vec::new();
        for step in steps.iter().filter(|step| step.ended_at.is_none()).take(10) {
            reasons.push(client.why(self.run, &step.name).await?);
        }
        let output = context.output;
        if output.json {
            let attempts: Vec<Value> = attempts
                .iter()
                .map(|a| {
                    json!({ "step": a.step, "attempt": a.attempt, "outcome": a.outcome, "worker": a.worker_id,
                            "claimed_at": a.claimed_at, "ended_at": a.ended_at, "error": value(a.error.as_ref()) })
                })
                .collect();
            let mut run = run_json(&run);
            run["steps"] = steps.iter().map(step_json).collect();
            run["attempts"] = attempts.into();
            run["why"] = reasons.into();
            output.json(&run);
            return Ok(());
        }
        output.line(&format!("Run      {}", run.id));
        if let Some(name) = &run.name {
            output.line(&format!("Name     {name}"));
        }
        output.line(&format!("Flow     {} version {}", run.flow, run.version));
        output.line(&format!("State    {}, {} of {} steps done", run.state, run.steps - run.open_steps, run.steps));
        output.line(&format!("Started  {}", time(run.start_at.unwrap_or(run.created_at))));
        if let Some(ended) = run.ended_at {
            output.line(&format!("Ended    {}", time(ended)));
        }
        output.line(&format!("Input    {}", shortened(&run.input)));
        if let Some(error) = &run.error {
            output.line(&format!("Error    {}", shortened(error)));
        }
        output.line("");
        let rows = steps.iter().map(|step| {
            let detail = step.error.as_ref().or(step.output.as_ref()).map(shortened).unwrap_or_default();
            vec![
                Cell::new(&step.name),
                state(step.state.as_str()),
                Cell::new(step.attempt.map(|a| a.to_string()).unwrap_or_default()),
                Cell::new(step.worker_id.map(|w| w.to_string()).unwrap_or_default()),
                Cell::new(optional_time(step.started_at)),
                Cell::new(optional_time(step.ended_at)),
                Cell::new(detail),
            ]
        });
        output.table(&["STEP", "STATE", "ATTEMPT", "WORKER", "CLAIMED", "ENDED", "OUTPUT"], rows.collect());
        if !attempts.is_empty() {
            output.line("");
            let rows = attempts.iter().map(|a| {
                vec![
                    Cell::new(&a.step),
                    Cell::new(a.attempt),
                    state(&a.outcome),
                    Cell::new(a.worker_id),
                    Cell::new(time(a.ended_at)),
                    Cell::new(a.error.as_ref().map(shortened).unwrap_or_default()),
                ]
            });
            output.table(&["STEP", "ATTEMPT", "OUTCOME", "WORKER", "ENDED", "ERROR"], rows.collect());
        }
        if !reasons.is_empty() {
            output.line("");
            for reason in reasons {
                output.line(&reason);
            }
        }
        Ok(())
    }
}

/// Options of `stop`.
#[derive(Debug, Args)]
#[command(after_help = "\
Steps that wait are cancelled at once; handlers that run are stopped. Refused
(exit code 4) when a run has ended; the others are stopped all the same.")]
pub(super) struct Stop {
    /// Ids of the runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<Uuid>,
}

impl Stop {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let mut outcome = Ok(());
        for id in self.runs {
            match client.run(id).stop().await {
                Ok(()) if context.output.json => {
                    context.output.json(&json!({ "id": id, "state": RunState::Cancelled }))
                }
                Ok(()) => context.output.line(&format!("{id} stopped.")),
                Err(error) => {
                    if outcome.is_err() {
                        eprintln!("error: {error}");
                    } else {
                        outcome = Err(error.into());
                    }
                }
            }
        }
        outcome
    }
}

/// Options of `wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints each run's output when it has ended.

Exit codes: 0 all completed, 1 some failed or were cancelled, 124 --timeout.")]
pub(super) struct Wait {
    /// Ids of the runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<Uuid>,
    /// Give up waiting after this time.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
}

impl Wait {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        wait_for(context, &client, &self.runs, self.timeout.map(Span::as_duration)).await
    }
}

/// Waits for runs and prints what became of them.
pub(super) async fn wait_for(
    context: &Context,
    client: &Client,
    ids: &[Uuid],
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout.unwrap_or(FOREVER);
    let mut unsuccessful = 0;
    for id in ids {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(run) = client.run(*id).wait(left).await? else {
            return Err(Failure::new(124, format!("run {id} has not ended within {:?}", timeout.unwrap_or_default())));
        };
        let output = client.database().calls().await?.run_output(*id).await?;
        if context.output.json {
            let mut json = run_json(&run);
            json["output"] = value(output.as_ref());
            context.output.json(&json);
        } else if run.state == RunState::Completed {
            context.output.line(output.as_ref().map_or("null", Payload::as_str));
        } else {
            let error = run.error.as_ref().map(|e| format!(": {}", e.as_str())).unwrap_or_default();
            eprintln!("run {id} {}{error}", run.state);
        }
        if run.state != RunState::Completed {
            unsuccessful += 1;
        }
    }
    if unsuccessful > 0 {
        return Err(Failure::new(1, format!("{unsuccessful} of {} runs did not complete", ids.len())));
    }
    Ok(())
}

fn run_json(run: &RunInfo) -> Value {
    json!({
        "id": run.id, "flow": run.flow, "version": run.version, "name": run.name, "state": run.state,
        "created_at": run.created_at, "start_at": run.start_at, "ended_at": run.ended_at,
        "steps_total": run.steps, "steps_open": run.open_steps, "revision": run.revision,
        "input": value(Some(&run.input)), "error": value(run.error.as_ref()),
    })
}

fn step_json(step: &StepInfo) -> Value {
    json!({
        "seq": step.seq, "name": step.name, "handler": step.handler, "queue": step.queue, "state": step.state,
        "attempt": step.attempt, "failures": step.failures, "max_attempts": step.max_attempts, "worker": step.worker_id,
        "started_at": step.started_at, "ended_at": step.ended_at, "fire_at": step.fire_at,
        "output": value(step.output.as_ref()), "error": value(step.error.as_ref()),
    })
}

fn value(payload: Option<&Payload>) -> Value {
    payload.and_then(|payload| payload.read().ok()).unwrap_or(Value::Null)
}

/// The beginning of a payload, for tables.
fn shortened(payload: &Payload) -> String {
    const MOST: usize = 100;
    let text = payload.as_str();
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}
