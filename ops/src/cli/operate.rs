//! `begin`, `pause`, `resume`, `stop`, `rename`, `annotate`, `dismiss`, `undismiss`, `retry`, `delete`, `fork`: operations on runs.

use clap::{Args, Subcommand};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error, Payload,
    calls::{Operation, OperationOptions, RunState},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Context, Failure,
    bulk::{Act, BulkArguments},
    run_ref::RunRef,
    start::read_input,
    terminal,
};

/// The runs, who asks, and what is expected of them.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The runs: ids, or what is enough of them. Or say which runs with a filter.
    #[arg(value_name = "RUN")]
    runs: Vec<RunRef>,
    #[command(flatten)]
    bulk: BulkArguments,
    #[command(flatten)]
    asking: AskingArguments,
}

const MANY: &str = "\
Examples:
  longhaul retry 019b3f2a…c41d
  longhaul stop --flow import --since 1h              shows what it will hit, and asks
  longhaul retry --flow order --state failed --yes    for scripts
  longhaul pause --metadata '{\"customer\": 7}' --dry-run

Refused for one run, an act goes on with the others; exit code 4 tells.";

/// Who asks, and what is expected.
#[derive(Debug, Args)]
pub(super) struct AskingArguments {
    /// Who asks, for the timeline; the user of this machine by default.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Refuse unless the run is in this state.
    #[arg(long, value_name = "STATE")]
    expect_state: Option<RunState>,
    /// Refuse unless the run has this revision.
    #[arg(long, value_name = "N")]
    expect_revision: Option<i32>,
}

impl AskingArguments {
    fn asking(&self) -> OperationOptions {
        OperationOptions {
            by: actor(self.by.clone()),
            expected_state: self.expect_state,
            expected_revision: self.expect_revision,
            request: None,
        }
    }
}

/// Who asks: as given, or the user of this machine. Where neither variable is set (a container, a service), the database writes
/// down its own user.
pub(super) fn actor(by: Option<String>) -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|name: &String| !name.is_empty());
    by.filter(|name| !name.is_empty()).or_else(|| variable("USER")).or_else(|| variable("LOGNAME"))
}

/// Commands that change a run.
#[derive(Debug, Subcommand)]
pub(super) enum Operate {
    /// Start pending runs now.
    #[command(after_help = MANY)]
    Begin(Target),
    /// Pause runs: ready steps are kept back, running ones finish.
    #[command(after_help = MANY)]
    Pause(Target),
    /// Let paused runs go on.
    #[command(
        after_help = "Example:\n  longhaul resume 019b… --data '{\"approved\": true}'   for a step that interrupted its run"
    )]
    Resume {
        #[command(flatten)]
        target: Target,
        /// Data for the step that interrupted the run: JSON, or @FILE, or - for standard input.
        #[arg(long, value_name = "JSON")]
        data: Option<String>,
    },
    /// Stop live runs, and their children.
    ///
    /// Steps that wait are cancelled at once; handlers that run are stopped.
    #[command(after_help = MANY)]
    Stop(Target),
    /// Give a run a name, or take it away.
    Rename {
        /// The run.
        run: RunRef,
        /// The name, at most 200 characters; none takes it away.
        name: Option<String>,
        #[command(flatten)]
        asking: AskingArguments,
    },
    /// Set keys of a run's metadata.
    #[command(after_help = "Example:\n  longhaul annotate 019b… '{\"ticket\": 4711, \"old-key\": null}'")]
    Annotate {
        /// The run.
        run: RunRef,
        /// An object; null takes a key away.
        metadata: String,
        #[command(flatten)]
        asking: AskingArguments,
    },
    /// Leave ended runs out of lists and of the dead letters.
    #[command(after_help = MANY)]
    Dismiss(Target),
    /// Put dismissed runs back into lists.
    #[command(after_help = MANY)]
    Undismiss(Target),
    /// Go on with failed or stopped runs from the steps that failed or were cancelled.
    #[command(after_help = MANY)]
    Retry(Target),
    /// Delete ended runs with all that belongs to them.
    ///
    /// A run stays that a live run can need, or that a retention policy wants in an archive first.
    #[command(after_help = MANY)]
    Delete(Target),
    /// Start a new run that does a step of a run, and what follows it, again.
    #[command(after_help = "Example:\n  longhaul fork 019b… pack --input '{\"id\": 7, \"express\": true}'")]
    Fork {
        /// The run.
        run: RunRef,
        /// The step to begin with.
        step: String,
        /// Another input for what is done again: JSON, or @FILE, or - for standard input.
        #[arg(long, value_name = "JSON")]
        input: Option<String>,
        #[command(flatten)]
        asking: AskingArguments,
    },
}

impl Operate {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (target, operation, verb, done) = match self {
            Self::Begin(target) => (target, Operation::Start, "start", "started"),
            Self::Pause(target) => (target, Operation::Pause, "pause", "paused"),
            Self::Resume { target, data } => {
                let data = data.map(|d| payload(&d)).transpose()?;
                (target, Operation::Resume(data), "resume", "resumed")
            }
            Self::Stop(target) => (target, Operation::Stop, "stop", "stopped"),
            Self::Dismiss(target) => (target, Operation::Dismiss, "dismiss", "dismissed"),
            Self::Undismiss(mut target) => {
                target.bulk.filter.dismissed = true;
                (target, Operation::Undismiss, "undismiss", "undismissed")
            }
            Self::Retry(target) => (target, Operation::Retry, "retry", "retried"),
            Self::Delete(target) => {
                let act = Act { verb: "delete", done: "deleted", states: RunState::FINAL };
                return on_target(context, &target, act, |client, id| async move {
                    delete(&client, id).await.map(|()| None)
                })
                .await;
            }
            Self::Rename { run, name, asking } => {
                return on_one(context, &run, Operation::Rename(name), &asking, "renamed").await;
            }
            Self::Annotate { run, metadata, asking } => {
                return on_one(context, &run, Operation::Annotate(payload(&metadata)?), &asking, "annotated").await;
            }
            Self::Fork { run, step, input, asking } => return fork(context, &run, &step, input, &asking).await,
        };
        let act = Act { verb, done, states: operation.states() };
        let asking = target.asking.asking();
        on_target(context, &target, act, |client, id| {
            let (operation, asking) = (operation.clone(), asking.clone());
            async move { client.run(id).operate(operation, asking).await.map(Some) }
        })
        .await
    }
}

/// Does an act to the runs that were named, or to those of a filter. It returns the revision of a run that is still there.
async fn on_target<F, Fut>(context: &Context, target: &Target, act: Act, one: F) -> Result<(), Failure>
where
    F: Fn(Client, Uuid) -> Fut,
    Fut: Future<Output = Result<Option<i32>, Error>>,
{
    match (target.runs.is_empty(), target.bulk.is_asked_for()) {
        (true, false) => {
            return Err(Failure::usage(format!(
                "say which runs to {}: ids, a filter such as --flow, or --all",
                act.verb
            )));
        }
        (false, true) => return Err(Failure::usage("give ids or a filter, and not both")),
        _ => {}
    }
    let client = context.connection.client().await?;
    if target.runs.is_empty() {
        let each = |id| {
            let outcome = one(client.clone(), id);
            async move { outcome.await.map(|_| ()) }
        };
        return target.bulk.run(context, &client, act, each).await;
    }
    let mut outcome = Ok(());
    for id in RunRef::resolve_all(&target.runs, &client).await? {
        if target.bulk.dry_run {
            context.output.line(&format!("{id} would be {}.", act.done));
            continue;
        }
        match one(client.clone(), id).await {
            Ok(revision) => say(context, &client, id, revision, act.done).await?,
            Err(error) if outcome.is_err() => terminal::tell(&format!("error: {error}")),
            Err(error) => outcome = Err(error.into()),
        }
    }
    outcome
}

async fn on_one(
    context: &Context,
    run: &RunRef,
    operation: Operation,
    asking: &AskingArguments,
    done: &str,
) -> Result<(), Failure> {
    let client = context.connection.client().await?;
    let id = run.resolve(&client).await?;
    let revision = client.run(id).operate(operation, asking.asking()).await?;
    say(context, &client, id, Some(revision), done).await
}

async fn say(context: &Context, client: &Client, id: Uuid, revision: Option<i32>, done: &str) -> Result<(), Failure> {
    if !context.output.json {
        context.output.line(&format!("{id} {done}."));
        return Ok(());
    }
    let state = match revision {
        Some(_) => Some(client.get(id).await?.state),
        None => None,
    };
    context.output.json(&json!({ "id": id, "state": state, "revision": revision }));
    Ok(())
}

/// Deletes a run of this tenant.
async fn delete(client: &Client, id: Uuid) -> Result<(), Error> {
    let run = client.get(id).await?;
    if run.ended_at.is_none() {
        return Err(Error::Refused(format!("run {id} is {} and cannot be deleted", run.state)));
    }
    match client.database().calls().await?.delete_runs(&[id]).await? {
        0 => Err(Error::Refused(format!(
            "run {id} stays: a live run can need it, somebody is at it, or a policy wants it in an archive first"
        ))),
        _ => Ok(()),
    }
}

async fn fork(
    context: &Context,
    run: &RunRef,
    step: &str,
    input: Option<String>,
    asking: &AskingArguments,
) -> Result<(), Failure> {
    let input = input.map(|i| payload(&i)).transpose()?;
    let client = context.connection.client().await?;
    let run = run.resolve(&client).await?;
    let fork = client.run(run).fork_with(step, input, asking.asking()).await?;
    if context.output.json {
        context.output.json(&json!({ "id": fork.id(), "forked_from": run }));
    } else {
        context.output.line(&fork.id().to_string());
    }
    Ok(())
}

/// JSON: given as it is, in a file, or on standard input.
pub(super) fn payload(text: &str) -> Result<Payload, Failure> {
    Ok(Payload::from_text(&read_input(Some(text))?)?)
}
