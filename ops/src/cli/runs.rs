//! `list`, `show`, `wait`: reading runs.

use std::time::{Duration, Instant};

use clap::Args;
use longhaul_scheduler::Client;
use longhaul_schema::{
    Payload, Span,
    calls::{RunFilter, RunInfo, RunState, StepInfo, TimelineEntry},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Context, Failure,
    filter::FilterArguments,
    output::{Cell, length, plural, state, time},
    run_ref::RunRef,
    start::FOREVER,
    terminal, why,
};

/// Options of `list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul list --flow order --state failed
  longhaul list --limit 1000 --json | jq -r .id
  longhaul list --before 019b…       the page after the one that ended there")]
pub(super) struct List {
    #[command(flatten)]
    which: FilterArguments,
    /// Runs older than this one only.
    #[arg(long, value_name = "RUN")]
    before: Option<RunRef>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let filter = RunFilter {
            before: RunRef::resolve_optional(self.before.as_ref(), &client).await?,
            limit: i64::from(self.limit),
            ..self.which.filter(&client).await?
        };
        let page = client.find(&filter).await?;
        if let Some(id) = page.looked_to {
            super::terminal::tell(&format!(
                "looked at the newest {} runs; for older ones add --before {id}",
                filter.look
            ));
        }
        print(context, &client, &page.runs).await
    }
}

/// A list of runs.
pub(super) async fn print(context: &Context, client: &Client, runs: &[RunInfo]) -> Result<(), Failure> {
    if context.output.json {
        for run in runs {
            context.output.json(&run_json(run));
        }
        return Ok(());
    }
    let now = client.database().calls().await?.present().await?;
    let rows = runs.iter().map(|run| {
        let began = run.start_at.unwrap_or(run.created_at);
        vec![
            Cell::id(run.id),
            Cell::new(format!("{} v{}", run.flow, run.version)),
            state(run.state.as_str()),
            Cell::whole(format!("{}/{}", run.steps.saturating_sub(run.open_steps), run.steps)),
            Cell::time(began),
            Cell::whole(length(began, run.ended_at.unwrap_or(now))),
            Cell::new(run.name.as_deref().unwrap_or_default()),
            Cell::new(run.error.as_ref().map(reason).unwrap_or_default()),
        ]
    });
    context.output.table(&["RUN", "FLOW", "STATE", "ENDED", "STARTED", "TOOK", "NAME", "ERROR"], rows.collect());
    Ok(())
}

/// Options of `show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The run: its id, or what is enough of it.
    run: RunRef,
    /// Show what happened to it, when, and by whom, instead of its steps.
    #[arg(long)]
    timeline: bool,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let id = self.run.resolve(&client).await?;
        if self.timeline {
            return show_timeline(context, &client.timeline(id).await?);
        }
        let run = client.get(id).await?;
        let steps = client.steps(id).await?;
        let attempts = client.attempts(id).await?;
        let reasons = why::reasons(&client, id).await?;
        let result = match run.state {
            RunState::Completed => client.database().calls().await?.run_output(id).await?,
            _ => None,
        };
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
            run["output"] = value(result.as_ref());
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
        output.line(&format!(
            "State    {}, {} of {} steps have ended",
            run.state,
            run.steps.saturating_sub(run.open_steps),
            run.steps
        ));
        output.line(&format!("Started  {}", time(run.start_at.unwrap_or(run.created_at))));
        if let Some(ended) = run.ended_at {
            output.line(&format!("Ended    {}", time(ended)));
        }
        if let Some(parent) = run.parent_id {
            output.line(&format!("Parent   {parent}"));
        }
        if let Some(source) = run.forked_from {
            output.line(&format!("Forked   from {source}"));
        }
        if let Some(metadata) = &run.metadata {
            output.line(&format!("Metadata {}", shortened(metadata)));
        }
        output.line(&format!("Input    {}", shortened(&run.input)));
        if let Some(result) = &result {
            output.line(&format!("Output   {}", shortened(result)));
        }
        if let Some(error) = &run.error {
            output.line(&format!("Error    {}", reason(error)));
        }
        output.line("");
        let rows = steps.iter().map(|step| {
            let detail = step.error.as_ref().map(reason).or(step.output.as_ref().map(shortened)).unwrap_or_default();
            vec![
                Cell::new(&step.name),
                state(step.state.as_str()),
                Cell::new(step.attempt.map(|a| a.to_string()).unwrap_or_default()),
                Cell::whole(step.worker_id.map(|w| w.to_string()).unwrap_or_default()),
                Cell::time(step.started_at),
                Cell::time(step.ended_at),
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
                    Cell::time(a.ended_at),
                    Cell::new(a.error.as_ref().map(reason).unwrap_or_default()),
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

/// Options of `wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints each run's output when it has ended.

Exit codes: 0 all completed, 1 some failed or were cancelled, 124 --timeout.")]
pub(super) struct Wait {
    /// The runs: ids, or what is enough of them.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<RunRef>,
    /// Give up waiting after this time.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
}

impl Wait {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let runs = RunRef::resolve_all(&self.runs, &client).await?;
        wait_for(context, &client, &runs, self.timeout.map(Span::as_duration)).await
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
        let Some(run) = wait_and_tell(context, client, *id, deadline).await? else {
            return Err(Failure::new(124, format!("run {id} has not ended within {:?}", timeout.unwrap_or_default())));
        };
        let output = client.database().calls().await?.run_output(*id).await?;
        if context.output.json {
            let mut json = run_json(&run);
            json["output"] = value(output.as_ref());
            context.output.json(&json);
        } else if run.state == RunState::Completed {
            context.output.json_text(output.as_ref().map_or("null", Payload::as_str));
        } else {
            let error = run.error.as_ref().map(|e| format!(": {}", reason(e))).unwrap_or_default();
            terminal::tell(&format!("run {id} {}{error}", run.state));
        }
        if run.state != RunState::Completed {
            unsuccessful += 1;
        }
    }
    if unsuccessful > 0 {
        return Err(Failure::new(1, format!("{unsuccessful} of {} did not complete", plural(ids.len(), "run"))));
    }
    Ok(())
}

/// How long a wait says nothing, and how often it looks again at what is being waited for.
const QUIET: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_secs(15);

/// Waits for a run. What it waits for is told after a while, and whenever that changes.
async fn wait_and_tell(
    context: &Context,
    client: &Client,
    id: Uuid,
    deadline: Instant,
) -> Result<Option<RunInfo>, Failure> {
    let mut told = Vec::new();
    let mut pause = QUIET;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(run) = client.run(id).wait(left.min(pause)).await? {
            return Ok(Some(run));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        if !context.output.json {
            // What cannot be read now does not matter to the wait.
            let reasons = why::reasons(client, id).await.unwrap_or_default();
            if reasons != told && !reasons.is_empty() {
                terminal::tell(&format!("waiting for run {id}:"));
                reasons.iter().for_each(|reason| terminal::tell(&format!("  {reason}")));
                told = reasons;
            }
        }
        pause = LOOK;
    }
}

pub(super) fn show_timeline(context: &Context, timeline: &[TimelineEntry]) -> Result<(), Failure> {
    if context.output.json {
        timeline.iter().for_each(|entry| context.output.json(&entry_json(entry)));
        return Ok(());
    }
    let rows = timeline.iter().map(|e| {
        vec![
            Cell::time(e.at),
            Cell::new(&e.kind),
            Cell::new(e.step.as_deref().unwrap_or_default()),
            Cell::new(e.attempt.map(|a| a.to_string()).unwrap_or_default()),
            Cell::new(e.actor.as_deref().unwrap_or_default()),
            Cell::new(e.detail.as_ref().map(shortened).unwrap_or_default()),
        ]
    });
    context.output.table(&["AT", "WHAT", "STEP", "ATTEMPT", "BY", "DETAIL"], rows.collect());
    Ok(())
}

/// An entry of a timeline.
pub(super) fn entry_json(e: &TimelineEntry) -> Value {
    let detail = value(e.detail.as_ref());
    json!({ "at": e.at, "kind": e.kind, "step": e.step, "attempt": e.attempt, "actor": e.actor, "detail": detail })
}

fn run_json(run: &RunInfo) -> Value {
    json!({
        "id": run.id, "flow": run.flow, "version": run.version, "name": run.name, "state": run.state,
        "created_at": run.created_at, "start_at": run.start_at, "ended_at": run.ended_at,
        "steps_total": run.steps, "steps_open": run.open_steps, "revision": run.revision,
        "input": value(Some(&run.input)), "error": value(run.error.as_ref()), "metadata": value(run.metadata.as_ref()),
        "paused_for": run.paused_for, "compensated": run.compensated, "dismissed_at": run.dismissed_at,
        "parent": run.parent_id, "forked_from": run.forked_from,
    })
}

fn step_json(step: &StepInfo) -> Value {
    json!({
        "seq": step.seq, "name": step.name, "kind": step.kind, "phase": step.phase, "handler": step.handler, "queue": step.queue, "state": step.state,
        "attempt": step.attempt, "failures": step.failures, "max_attempts": step.max_attempts, "worker": step.worker_id,
        "started_at": step.started_at, "ended_at": step.ended_at, "fire_at": step.fire_at, "waits_for": step.waits_for,
        "output": value(step.output.as_ref()), "error": value(step.error.as_ref()),
    })
}

pub(super) fn value(payload: Option<&Payload>) -> Value {
    payload.and_then(|payload| payload.read().ok()).unwrap_or(Value::Null)
}

/// The message of an error with what it says besides, or its beginning as it is. What a message says is often only that a call
/// failed; its last cause says why.
pub(super) fn reason(error: &Payload) -> String {
    let error_value = value(Some(error));
    let cause = error_value["causes"].as_array().and_then(|causes| causes.last()).and_then(Value::as_str);
    let Some(message) = error_value["message"].as_str() else { return shortened(error) };
    match error_value["detail"].as_str().or(cause) {
        Some(more) if !message.contains(more) => cut(&format!("{message}: {more}")),
        _ => cut(message),
    }
}

/// The beginning of a payload, for tables.
pub(super) fn shortened(payload: &Payload) -> String {
    cut(payload.as_str())
}

fn cut(text: &str) -> String {
    const MOST: usize = 200;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}
