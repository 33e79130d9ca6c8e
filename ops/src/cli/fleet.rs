//! `workers`, `drain`, `lease list`: who works, and on what.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use longhaul_scheduler::Client;
use longhaul_schema::{Span, calls::WorkerInfo};
use serde_json::json;

use super::{
    Context, Failure,
    output::{Cell, length, plural, state},
};
use crate::similar::did_you_mean;

/// Commands below `worker`.
#[derive(Debug, Subcommand)]
pub(super) enum WorkerAction {
    /// List the workers that are registered; also `longhaul workers`.
    List(Workers),
    /// Let workers claim no more; what they have they may finish. Also `longhaul drain`.
    Drain(Drain),
}

/// Options of `workers`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul workers
  longhaul workers --check --host \"$HOSTNAME\"    a probe for the worker of this machine or container

Exit code 3 with --check: none lives, or the heartbeat of each is overdue.")]
pub(super) struct Workers {
    /// Those that left as well.
    #[arg(long, conflicts_with = "check")]
    all: bool,
    /// Those of this machine only.
    #[arg(long)]
    host: Option<String>,
    /// Print nothing, and fail unless one of them lives.
    #[arg(long)]
    check: bool,
}

/// Options of `drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul drain 1083498320                 by its number, and wait until it has ended
  longhaul drain --host web-3 --timeout 5m  all workers of a machine
  longhaul drain worker-7 --no-wait

Exit codes: 0 drained, 3 no such worker, 124 --timeout.")]
pub(super) struct Drain {
    /// Numbers or names of the workers, as `longhaul workers` shows them.
    #[arg(value_name = "WORKER", required_unless_present_any = ["host", "all"])]
    workers: Vec<String>,
    /// All workers of this machine.
    #[arg(long, conflicts_with = "workers")]
    host: Option<String>,
    /// All workers.
    #[arg(long, conflicts_with_all = ["workers", "host"])]
    all: bool,
    /// Do not wait until they have ended.
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting after this time. They go on draining.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
}

/// Commands below `lease`.
#[derive(Debug, Subcommand)]
pub(super) enum Lease {
    /// List the steps in flight, longest first.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
}

impl WorkerAction {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List(workers) => workers.run(context).await,
            Self::Drain(drain) => drain.run(context).await,
        }
    }
}

impl Workers {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let calls = client.database().calls().await?;
        let mut workers = calls.workers(client.database().tenant(), self.all).await?;
        workers.retain(|worker| self.host.as_ref().is_none_or(|host| worker.host == *host));
        let now = calls.present().await?;
        if self.check {
            return match workers.iter().any(|worker| worker.expires_at > now) {
                true => Ok(()),
                false => Err(Failure::new(3, "no worker lives")),
            };
        }
        let output = context.output;
        if output.json {
            for w in workers {
                output.json(&json!({
                    "id": w.id, "name": w.name, "host": w.host, "pid": w.pid, "state": w.state, "running": w.running,
                    "queues": w.queues, "handlers": w.handlers, "started_at": w.started_at,
                    "heartbeat_at": w.heartbeat_at, "expires_at": w.expires_at,
                }));
            }
            return Ok(());
        }
        let rows = workers.iter().map(|w| {
            // One that has not been given up yet, though its time is over.
            let late = w.expires_at <= now && matches!(w.state.as_str(), "active" | "draining");
            vec![
                Cell::whole(w.id),
                Cell::new(&w.name),
                Cell::new(format!("{} {}", w.host, w.pid)),
                if late { state("overdue") } else { state(&w.state) },
                Cell::whole(w.running),
                Cell::whole(format!("{} ago", length(w.heartbeat_at, now))),
                Cell::new(w.queues.join(", ")),
                Cell::new(w.handlers.join(", ")),
            ]
        });
        let header = ["ID", "NAME", "PROCESS", "STATE", "HOLDS", "SEEN", "QUEUES", "HANDLERS"];
        output.table(&header, rows.collect());
        Ok(())
    }
}

impl Drain {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let chosen = self.choose(&client).await?;
        let output = context.output;
        for worker in &chosen {
            let changed = match worker.state.as_str() {
                "active" => true,
                "draining" => false,
                other => return Err(Failure::new(4, format!("worker {} is {other} and cannot be drained", worker.id))),
            };
            client.database().calls().await?.drain_worker(worker.id).await?;
            if output.json {
                output.json(&json!({ "worker": worker.id, "changed": changed, "running": worker.running }));
            } else {
                let word = if changed { "claims no more" } else { "is draining already" };
                let holds = plural(usize::try_from(worker.running).unwrap_or_default(), "step");
                output.line(&format!(
                    "worker {} ({} on {}) {word}; it holds {holds}.",
                    worker.id, worker.name, worker.host
                ));
            }
        }
        if self.no_wait { Ok(()) } else { self.wait(context, &client, &chosen).await }
    }

    /// The workers that are meant. A number means one that left as well, so that it can be told what became of it.
    async fn choose(&self, client: &Client) -> Result<Vec<WorkerInfo>, Failure> {
        let workers = client.database().calls().await?.workers(client.database().tenant(), true).await?;
        let lives = |worker: &WorkerInfo| matches!(worker.state.as_str(), "active" | "draining");
        if self.workers.is_empty() {
            let host = |worker: &WorkerInfo| self.host.as_ref().is_none_or(|host| worker.host == *host);
            let chosen: Vec<WorkerInfo> = workers.into_iter().filter(|w| lives(w) && host(w)).collect();
            return match (chosen.is_empty(), &self.host) {
                (false, _) => Ok(chosen),
                (true, Some(host)) => Err(Failure::new(3, format!("there is no worker on {host}"))),
                (true, None) => Err(Failure::new(3, "there is no worker")),
            };
        }
        let mut chosen = Vec::new();
        for said in &self.workers {
            let meant = workers.iter().filter(|worker| match said.parse::<i64>() {
                Ok(id) => worker.id == id,
                Err(_) => worker.name == *said && lives(worker),
            });
            let before = chosen.len();
            chosen.extend(meant.cloned());
            if chosen.len() == before {
                let names = workers.iter().filter(|worker| lives(worker)).map(|worker| worker.name.as_str());
                return Err(Failure::new(3, format!("there is no worker {said}{}", did_you_mean(said, names))));
            }
        }
        Ok(chosen)
    }

    /// Waits until the workers have ended, and shows how many steps they still hold.
    async fn wait(&self, context: &Context, client: &Client, chosen: &[WorkerInfo]) -> Result<(), Failure> {
        let deadline = self.timeout.map(|span| Instant::now() + span.as_duration());
        let bar = ProgressBar::new_spinner();
        loop {
            let workers = client.database().calls().await?.workers(client.database().tenant(), false).await?;
            let left: Vec<&WorkerInfo> = workers.iter().filter(|w| chosen.iter().any(|c| c.id == w.id)).collect();
            if left.is_empty() {
                bar.finish_and_clear();
                if context.output.json {
                    context.output.json(&json!({ "drained": chosen.len() }));
                } else {
                    context.output.line(&format!("{} drained.", plural(chosen.len(), "worker")));
                }
                return Ok(());
            }
            let steps: i64 = left.iter().map(|worker| worker.running).sum();
            let steps = plural(usize::try_from(steps).unwrap_or_default(), "step");
            bar.set_message(format!("{} of {} left, with {steps}", left.len(), plural(chosen.len(), "worker")));
            bar.tick();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                bar.finish_and_clear();
                let (holds, timeout) =
                    (plural(left.len(), "worker"), self.timeout.map(|t| t.to_string()).unwrap_or_default());
                return Err(Failure::new(
                    124,
                    format!("{holds} with {steps} did not end within {timeout}; they go on draining"),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How often a wait for workers looks.
const LOOK: Duration = Duration::from_millis(300);

impl Lease {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List { limit } = self;
        let client = context.connection.client().await?;
        let leases = client.database().calls().await?.leases(client.database().tenant(), i64::from(limit)).await?;
        let output = context.output;
        if output.json {
            for l in leases {
                output.json(&json!({
                    "run": l.run_id, "step": l.step, "attempt": l.attempt, "worker": l.worker_id, "worker_name": l.worker,
                    "host": l.host, "claimed_at": l.claimed_at, "expires_at": l.expires_at,
                }));
            }
            return Ok(());
        }
        let now = client.database().calls().await?.present().await?;
        let rows = leases.iter().map(|l| {
            vec![
                Cell::id(l.run_id),
                Cell::new(&l.step),
                Cell::new(l.attempt),
                Cell::new(format!("{} {}", l.worker_id, l.worker.as_deref().unwrap_or_default())),
                Cell::time(l.claimed_at),
                Cell::whole(length(l.claimed_at, now)),
                Cell::time(l.expires_at),
            ]
        });
        output.table(&["RUN", "STEP", "ATTEMPT", "WORKER", "CLAIMED", "FOR", "UNTIL AT LEAST"], rows.collect());
        Ok(())
    }
}
