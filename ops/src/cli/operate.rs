//! `begin`, `pause`, `resume`, `stop`, `rename`, `annotate`, `dismiss`, `undismiss`, `retry`, `fork`: operations on runs.

use clap::{Args, Subcommand};
use longhaul_schema::{
    Payload,
    calls::{Operation, OperationOptions, RunState},
};
use serde_json::json;
use uuid::Uuid;

use super::{Context, Failure, moment::id, start::read_input, terminal};

/// The runs, who asks, and what is expected of them.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Ids of the runs.
    #[arg(required = true, value_name = "RUN", value_parser = id)]
    runs: Vec<Uuid>,
    #[command(flatten)]
    asking: AskingArguments,
}

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
    Begin(Target),
    /// Pause runs: ready steps are kept back, running ones finish.
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
    #[command(after_help = "\
Steps that wait are cancelled at once; handlers that run are stopped. Refused
(exit code 4) when a run has ended; the others are stopped all the same.")]
    Stop(Target),
    /// Give a run a name, or take it away.
    Rename {
        /// Id of the run.
        #[arg(value_parser = id)]
        run: Uuid,
        /// The name, at most 200 characters; none takes it away.
        name: Option<String>,
        #[command(flatten)]
        asking: AskingArguments,
    },
    /// Set keys of a run's metadata.
    #[command(after_help = "Example:\n  longhaul annotate 019b… '{\"ticket\": 4711, \"old-key\": null}'")]
    Annotate {
        /// Id of the run.
        #[arg(value_parser = id)]
        run: Uuid,
        /// An object; null takes a key away.
        metadata: String,
        #[command(flatten)]
        asking: AskingArguments,
    },
    /// Leave ended runs out of lists and of the dead letters.
    Dismiss(Target),
    /// Put dismissed runs back into lists.
    Undismiss(Target),
    /// Go on with failed or stopped runs from the steps that failed or were cancelled.
    Retry(Target),
    /// Start a new run that does a step of a run, and what follows it, again.
    #[command(after_help = "Example:\n  longhaul fork 019b… pack --input '{\"id\": 7, \"express\": true}'")]
    Fork {
        /// Id of the run.
        #[arg(value_parser = id)]
        run: Uuid,
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
        let (target, operation, done) = match self {
            Self::Begin(target) => (target, Operation::Start, "started"),
            Self::Pause(target) => (target, Operation::Pause, "paused"),
            Self::Resume { target, data } => {
                let data = data.map(|d| payload(&d)).transpose()?;
                (target, Operation::Resume(data), "resumed")
            }
            Self::Stop(target) => (target, Operation::Stop, "stopped"),
            Self::Rename { run, name, asking } => {
                (Target { runs: vec![run], asking }, Operation::Rename(name), "renamed")
            }
            Self::Annotate { run, metadata, asking } => {
                (Target { runs: vec![run], asking }, Operation::Annotate(payload(&metadata)?), "annotated")
            }
            Self::Dismiss(target) => (target, Operation::Dismiss, "dismissed"),
            Self::Undismiss(target) => (target, Operation::Undismiss, "undismissed"),
            Self::Retry(target) => (target, Operation::Retry, "goes on"),
            Self::Fork { run, step, input, asking } => return fork(context, run, &step, input, &asking).await,
        };
        let client = context.connection.client().await?;
        let asking = target.asking.asking();
        let mut outcome = Ok(());
        for id in target.runs {
            match client.run(id).operate(operation.clone(), asking.clone()).await {
                Ok(revision) if context.output.json => {
                    let state = client.get(id).await?.state;
                    context.output.json(&json!({ "id": id, "state": state, "revision": revision }));
                }
                Ok(_) => context.output.line(&format!("{id} {done}.")),
                Err(error) if outcome.is_err() => terminal::tell(&format!("error: {error}")),
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }
}

async fn fork(
    context: &Context,
    run: Uuid,
    step: &str,
    input: Option<String>,
    asking: &AskingArguments,
) -> Result<(), Failure> {
    let input = input.map(|i| payload(&i)).transpose()?;
    let client = context.connection.client().await?;
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
