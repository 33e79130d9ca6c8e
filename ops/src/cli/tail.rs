//! `tail`: what happens, as it happens.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use longhaul_scheduler::Client;
use longhaul_schema::calls::{RunState, TimelineEntry};
use longhaul_worker::shutdown_signal;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Context, Failure,
    output::time,
    run_ref::{RunRef, short},
    runs::{entry_json, shortened},
};

/// Options of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul tail 019b3f2a…c41d         from its beginning to its end
  longhaul tail                       all runs, from now on, until Ctrl-C
  longhaul tail --flow order --json   one value a line

With a run: exit code 0 when it has completed, 1 when it has failed or was cancelled.")]
pub(super) struct Tail {
    /// The run: its id, or what is enough of it. All runs when absent.
    run: Option<RunRef>,
    /// Without a run: runs of this flow only.
    #[arg(long, conflicts_with = "run")]
    flow: Option<String>,
    /// Only what happens from now on.
    #[arg(long, requires = "run")]
    new: bool,
}

/// How often it looks. A look reads one run, or what has happened lately to the newest runs and to those with steps in flight.
const LOOK: Duration = Duration::from_millis(500);

/// How far each look goes back: what happened may be committed a little later.
const BACK: TimeDelta = TimeDelta::seconds(10);

/// What has been shown.
#[derive(Default)]
struct Shown(HashMap<String, DateTime<Utc>>);

impl Shown {
    /// Whether an entry is new; it counts as shown from then on.
    fn is_new(&mut self, run: Uuid, entry: &TimelineEntry) -> bool {
        let detail = entry.detail.as_ref().map(shortened);
        let mark = format!("{run} {} {} {:?} {:?} {detail:?}", entry.at, entry.kind, entry.step, entry.attempt);
        self.0.insert(mark, entry.at).is_none()
    }

    /// What is older does not come again.
    fn forget_before(&mut self, time: DateTime<Utc>) {
        self.0.retain(|_, at| *at >= time);
    }
}

impl Tail {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        match &self.run {
            Some(run) => {
                let id = run.resolve(&client).await?;
                tokio::select! {
                    outcome = follow_run(context, &client, id, self.new) => outcome,
                    () = shutdown_signal() => Ok(()),
                }
            }
            None => tokio::select! {
                outcome = follow_all(context, &client, self.flow.as_deref()) => outcome,
                () = shutdown_signal() => Ok(()),
            },
        }
    }
}

async fn follow_run(context: &Context, client: &Client, id: Uuid, new: bool) -> Result<(), Failure> {
    let mut shown = Shown::default();
    let mut first = true;
    loop {
        // Read before the timeline: what ends it stands in that then.
        let run = client.get(id).await?;
        for entry in client.timeline(id).await? {
            if shown.is_new(id, &entry) && !(first && new) {
                say(context, None, &entry);
            }
        }
        first = false;
        if run.ended_at.is_some() {
            return match run.state {
                RunState::Completed => Ok(()),
                state => Err(Failure::new(1, format!("run {id} is {state}"))),
            };
        }
        // Ends early when the run does.
        client.run(id).wait(LOOK).await?;
    }
}

async fn follow_all(context: &Context, client: &Client, flow: Option<&str>) -> Result<(), Failure> {
    let database = client.database();
    let began = database.calls().await?.present().await?;
    let (mut since, mut shown) = (began, Shown::default());
    loop {
        let now = database.calls().await?.present().await?;
        for (run, entry) in database.calls().await?.happened_since(database.tenant(), flow, since).await? {
            if shown.is_new(run, &entry) {
                say(context, Some(run), &entry);
            }
        }
        since = began.max(now - BACK);
        shown.forget_before(since);
        tokio::time::sleep(LOOK).await;
    }
}

fn say(context: &Context, run: Option<Uuid>, entry: &TimelineEntry) {
    if context.output.json {
        let mut json = entry_json(entry);
        if let (Some(run), Value::Object(fields)) = (run, &mut json) {
            fields.insert("run".into(), run.to_string().into());
        }
        context.output.json(&json);
        return;
    }
    let run = run.map(|run| format!("{}  ", short(run))).unwrap_or_default();
    let step = entry.step.as_deref().map(|step| format!("  {step}")).unwrap_or_default();
    let attempt = entry.attempt.map(|attempt| format!(" #{attempt}")).unwrap_or_default();
    let actor = entry.actor.as_deref().map(|actor| format!("  by {actor}")).unwrap_or_default();
    let detail = entry.detail.as_ref().map(|detail| format!("  {}", shortened(detail))).unwrap_or_default();
    context.output.line(&format!("{}  {run}{}{step}{attempt}{actor}{detail}", time(entry.at), entry.kind));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_shown_once() {
        let (run, at) = (Uuid::now_v7(), Utc::now());
        let entry = TimelineEntry::new;
        let mut shown = Shown::default();
        assert!(shown.is_new(run, &entry("created", at)));
        assert!(!shown.is_new(run, &entry("created", at)));
        assert!(shown.is_new(run, &entry("paused", at)));
        assert!(shown.is_new(Uuid::now_v7(), &entry("created", at)));
        assert!(shown.is_new(run, &entry("created", at - TimeDelta::seconds(1))), "it was committed later");
        shown.forget_before(at);
        assert_eq!(shown.0.len(), 3);
    }
}
