//! `start`: one run, or many.

use std::{io::Read, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use clap::Args;
use longhaul_scheduler::{Client, Start, Unique};
use longhaul_schema::{Error, Payload, Span};
use serde_json::json;
use uuid::Uuid;

use super::{
    Context, Failure, lines,
    moment::{self, exact},
    operate, runs, terminal,
};
use crate::similar::did_you_mean;

/// Options of `start`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul start order '{\"id\": 7}'
  longhaul start order @order.json --name 'Order 7' --priority -10 --wait
  longhaul start remind '\"call back\"' --delay 2h
  longhaul start sync '{\"customer\": 7}' --key customer-7 --key-for 1h    once an hour at most
  longhaul start order --lines orders.jsonl    one run for each line of it")]
pub(super) struct StartCommand {
    /// Name of the flow.
    flow: String,
    /// The input: JSON, or @FILE, or - for standard input; {} by default.
    #[arg(conflicts_with = "lines")]
    input: Option<String>,
    /// Start one run for each line of this file, each line a JSON value; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "name", "priority", "delay", "at", "version", "wait", "create_only", "metadata", "deadline", "key"])]
    lines: Option<PathBuf>,
    /// With --lines: the batch of an earlier try, which it printed. Lines that were started then are not started again.
    #[arg(long, value_name = "ID", requires = "lines", value_parser = moment::id)]
    batch: Option<Uuid>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// Version of the flow; the latest by default.
    #[arg(long)]
    version: Option<i32>,
    /// Priority of all its steps, from -1000 to 1000; lower goes first.
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Start so long from now.
    #[arg(long, value_name = "TIME")]
    delay: Option<Span>,
    /// Start at this time (RFC 3339, as in 2026-12-24T18:00:00+01:00); a time in the past is now.
    #[arg(long, value_name = "TIME", conflicts_with = "delay", value_parser = exact)]
    at: Option<DateTime<Utc>>,
    /// Fail the run unless it has ended so long after its start.
    #[arg(long, value_name = "TIME")]
    deadline: Option<Span>,
    /// Only create it: it is pending until `longhaul begin`.
    #[arg(long, conflicts_with_all = ["delay", "at", "wait"])]
    create_only: bool,
    /// Metadata: an object to find the run by.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Start no second run under this key of the flow: print the id of the one that has it, as long as that lives.
    #[arg(long)]
    key: Option<String>,
    /// With --key: the key counts for this time from the start on, or for `ever`, whatever becomes of the run.
    #[arg(long, value_name = "TIME", requires = "key", value_parser = window)]
    key_for: Option<Unique>,
    /// Id of the run, a UUIDv7. Starting twice under one id starts once; with another input, that is refused.
    #[arg(long, value_parser = moment::id)]
    id: Option<Uuid>,
    /// Wait until it has ended, and print its output.
    #[arg(long)]
    wait: bool,
    /// With --wait: give up waiting after this time.
    #[arg(long, value_name = "TIME", requires = "wait")]
    timeout: Option<Span>,
}

impl StartCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(file) = &self.lines {
            return lines::start_lines(context, &self.flow, file, self.batch).await;
        }
        let mut start = Start::from_payload(Payload::from_text(&read_input(self.input.as_deref())?)?);
        let id = self.id.unwrap_or_else(Uuid::now_v7);
        start = start.id(id);
        if let Some(name) = self.name {
            start = start.name(name);
        }
        if let Some(version) = self.version {
            start = start.version(version);
        }
        if let Some(priority) = self.priority {
            start = start.priority(priority);
        }
        if let Some(delay) = self.delay {
            start = start.delay(delay.as_duration());
        }
        if let Some(deadline) = self.deadline {
            start = start.deadline(deadline.as_duration());
        }
        if self.create_only {
            start = start.create_only();
        }
        if let Some(metadata) = self.metadata {
            start = start.metadata(&operate::payload(&metadata)?)?;
        }
        if let Some(at) = self.at {
            start = start.at(at);
        }
        if let Some(key) = self.key {
            start = start.unique(key, self.key_for.unwrap_or(Unique::WhileLive));
        }
        let client = context.connection.client().await?;
        // What was there before was not started now.
        let known = match self.id {
            Some(id) => {
                client.database().calls().await?.run_states(client.database().tenant(), &[id]).await?.len() == 1
            }
            None => false,
        };
        let run = match client.start_with(&self.flow, start).await {
            Ok(run) => run,
            Err(error) => return Err(suggest_flow(&client, &self.flow, error).await),
        };
        let existing = known || run.id() != id;
        if self.wait {
            // Known before it has ended: whoever stops waiting can look it up.
            if context.output.json {
                terminal::tell_json(&json!({ "run": run.id(), "existing": existing }));
            } else {
                // A key that counts for another run gives that one.
                let word = if run.id() != id {
                    "has this key already"
                } else if known {
                    "was started before"
                } else {
                    "started"
                };
                terminal::tell(&format!("run {} {word}", run.id()));
            }
            return runs::wait_for(context, &client, &[run.id()], self.timeout.map(Span::as_duration)).await;
        }
        if context.output.json {
            context.output.json(&json!({ "id": run.id(), "existing": existing }));
        } else {
            context.output.line(&run.id().to_string());
        }
        Ok(())
    }
}

/// A flow that is not there may be misspelt.
pub(super) async fn suggest_flow(client: &Client, flow: &str, error: Error) -> Failure {
    let not_there = matches!(&error, Error::NotFound(text) if text.contains("there is no flow"));
    let failure = Failure::from(error);
    if !not_there {
        return failure;
    }
    let flows = client.flows().await.unwrap_or_default();
    match did_you_mean(flow, flows.iter().map(|known| &*known.name)).trim_start_matches("; ") {
        "" => failure,
        meant => failure.explained(meant),
    }
}

/// How long a key counts.
fn window(text: &str) -> Result<Unique, String> {
    if text == "ever" {
        return Ok(Unique::Forever);
    }
    text.parse::<Span>().map(|span| Unique::For(span.as_duration())).map_err(|error| format!("{error}, or ever"))
}

/// JSON text: given as it is, in a file, or on standard input.
pub(super) fn read_input(input: Option<&str>) -> Result<String, Failure> {
    match input {
        None => Ok("{}".into()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| Failure::usage(format!("standard input: {e}")))?;
            Ok(text)
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{file}: {e}"))),
            None => Ok(text.into()),
        },
    }
}

/// The longest time that `wait` waits when none is given.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 86400);
