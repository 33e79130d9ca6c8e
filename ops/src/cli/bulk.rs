//! The same act on many runs, chosen by a filter: first what it will hit, then a question, then the act.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal},
};

use clap::Args;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use longhaul_scheduler::Client;
use longhaul_schema::{
    Error,
    calls::{RunFilter, RunState},
};
use serde_json::json;
use uuid::Uuid;

use super::{Context, Failure, filter::FilterArguments, output::plural, runs, terminal};

/// Ids that one look brings.
const PAGE: i64 = 10_000;

/// Runs that are acted on at a time.
const AT_ONCE: usize = 4;

/// How many runs a preview shows.
const SHOWN: usize = 10;

/// Options of an act on many runs.
#[derive(Clone, Debug, Args)]
pub(super) struct BulkArguments {
    #[command(flatten)]
    pub(super) filter: FilterArguments,
    /// All runs that the act is possible on, when nothing else says which.
    #[arg(long, help_heading = "Which runs")]
    all: bool,
    /// At most so many, the newest first.
    #[arg(long, default_value_t = 100_000, value_name = "N", help_heading = "Which runs", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    limit: u32,
    /// Ask no question.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would be hit.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// An act, as it is spoken of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    /// As in "stop 3 runs".
    pub(super) verb: &'static str,
    /// As in "3 runs stopped".
    pub(super) done: &'static str,
    /// The states in which it is possible.
    pub(super) states: &'static [RunState],
}

impl BulkArguments {
    /// Whether runs are chosen by a filter.
    pub(super) fn is_asked_for(&self) -> bool {
        self.all || self.filter.says_something()
    }

    /// Chooses runs, shows them, asks, and does the act to each.
    pub(super) async fn run<F, Fut>(&self, context: &Context, client: &Client, act: Act, one: F) -> Result<(), Failure>
    where
        F: Fn(Uuid) -> Fut,
        Fut: Future<Output = Result<(), Error>>,
    {
        let ids = self.choose(client, act).await?;
        self.preview(context, client, act, &ids).await?;
        if self.dry_run || ids.is_empty() {
            if context.output.json {
                context.output.json(&json!({ "matched": ids.len(), "done": 0, "refused": 0, "dry_run": self.dry_run }));
            }
            return Ok(());
        }
        if !self.yes && !agreed(act, ids.len())? {
            return Err(Failure::new(4, "nothing was done"));
        }
        carry_out(context, act, &ids, one).await
    }

    async fn choose(&self, client: &Client, act: Act) -> Result<Vec<Uuid>, Failure> {
        let calls = client.database().calls().await?;
        let filter = self.filter.filter(client).await?;
        let states: Vec<RunState> = self.filter.state.map_or(act.states.to_vec(), |state| vec![state]);
        let limit = self.limit as usize;
        let mut ids = Vec::new();
        for state in states {
            let mut before = None;
            while ids.len() < limit {
                let part = RunFilter {
                    state: Some(state),
                    before,
                    limit: PAGE.min((limit - ids.len()) as i64),
                    ..filter.clone()
                };
                let (found, looked_to) = calls.find_run_ids(&part).await?;
                before = looked_to.or(found.last().copied());
                let more = looked_to.is_some() || found.len() as i64 == part.limit;
                ids.extend(found);
                if !more {
                    break;
                }
            }
        }
        Ok(ids)
    }

    async fn preview(&self, context: &Context, client: &Client, act: Act, ids: &[Uuid]) -> Result<(), Failure> {
        if context.output.json || (self.yes && !self.dry_run) {
            return Ok(());
        }
        let mut first = Vec::new();
        for id in ids.iter().take(SHOWN) {
            match client.get(*id).await {
                Ok(run) => first.push(run),
                // Deleted since.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !first.is_empty() {
            runs::print(context, client, &first).await?;
        }
        if let Some(more) = ids.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            context.output.line(&format!("and {} more", more));
        }
        if self.dry_run || ids.is_empty() {
            context.output.line(&format!("{} would be {}.", plural(ids.len(), "run"), act.done));
        }
        Ok(())
    }
}

/// Asks on a terminal. Elsewhere nobody can answer: who means it says so.
fn agreed(act: Act, runs: usize) -> Result<bool, Failure> {
    let (input, whom) = (std::io::stdin(), plural(runs, "run"));
    if !input.is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(format!(
            "this would {} {whom}; say --yes if that is meant, or --dry-run",
            act.verb
        )));
    }
    terminal::tell(&format!("{} {whom}? [y/N]", capital(act.verb)));
    let mut answer = String::new();
    input.lock().read_line(&mut answer).map_err(|e| Failure::new(1, format!("no answer can be read: {e}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

async fn carry_out<F, Fut>(context: &Context, act: Act, ids: &[Uuid], one: F) -> Result<(), Failure>
where
    F: Fn(Uuid) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let bar = ProgressBar::new(ids.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let (mut done, mut refusals, mut broken) = (0_usize, BTreeMap::<String, usize>::new(), None);
    let mut acts = stream::iter(ids.iter().map(|id| {
        let outcome = one(*id);
        async move { (*id, outcome.await) }
    }))
    .buffer_unordered(AT_ONCE);
    while let Some((id, outcome)) = acts.next().await {
        bar.inc(1);
        match outcome {
            Ok(()) => done += 1,
            // Somebody was there before, or the run went on meanwhile: that concerns this run alone.
            Err(error @ (Error::Refused(_) | Error::NotFound(_) | Error::Conflict(_))) => {
                let reason = error.to_string().replace(&id.to_string(), "…");
                *refusals.entry(reason).or_default() += 1;
                if context.output.json {
                    bar.suspend(|| context.output.json(&json!({ "id": id, "refused": error.to_string() })));
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    bar.finish_and_clear();
    let refused: usize = refusals.values().sum();
    if context.output.json {
        context.output.json(&json!({ "matched": ids.len(), "done": done, "refused": refused, "dry_run": false }));
    } else {
        context.output.line(&format!("{} {}.", plural(done, "run"), act.done));
        for (reason, times) in &refusals {
            terminal::tell(&format!("{times} refused: {reason}"));
        }
    }
    match broken {
        Some(error) => {
            Err(Failure::from(error).explained(&format!("{done} of {} were done before", plural(ids.len(), "run"))))
        }
        None if refused > 0 => Err(Failure::new(4, format!("{} of {} refused", refused, plural(ids.len(), "run")))),
        None => Ok(()),
    }
}
