//! `worker list`, `worker drain`, `lease list`: who works, and on what.

use clap::Subcommand;
use serde_json::json;

use super::{
    Context, Failure,
    output::{Cell, length, state},
};

/// Commands below `worker`.
#[derive(Debug, Subcommand)]
pub(super) enum WorkerAction {
    /// List the workers that are registered.
    List {
        /// Those that left as well.
        #[arg(long)]
        all: bool,
    },
    /// Let a worker claim no more; what it has it may finish.
    Drain {
        /// Number of the worker, as `worker list` shows it.
        id: i64,
    },
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
        let client = context.connection.client().await?;
        let (calls, tenant) = (client.database().calls().await?, client.database().tenant());
        let output = context.output;
        match self {
            Self::List { all } => {
                let workers = calls.workers(tenant, all).await?;
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
                    vec![
                        Cell::new(w.id),
                        Cell::new(&w.name),
                        Cell::new(format!("{} {}", w.host, w.pid)),
                        state(&w.state),
                        Cell::new(w.running),
                        Cell::time(w.heartbeat_at),
                        Cell::time(w.expires_at),
                        Cell::new(w.queues.join(", ")),
                        Cell::new(w.handlers.join(", ")),
                    ]
                });
                let header =
                    ["ID", "NAME", "PROCESS", "STATE", "HOLDS", "LAST SEEN", "LEASES UNTIL", "QUEUES", "HANDLERS"];
                output.table(&header, rows.collect());
                Ok(())
            }
            Self::Drain { id } => {
                let workers = calls.workers(tenant, true).await?;
                let worker = workers
                    .iter()
                    .find(|worker| worker.id == id)
                    .ok_or_else(|| Failure::new(3, format!("there is no worker {id}")))?;
                let changed = match worker.state.as_str() {
                    "active" => true,
                    "draining" => false,
                    other => return Err(Failure::new(4, format!("worker {id} is {other} and cannot be drained"))),
                };
                calls.drain_worker(id).await?;
                if output.json {
                    output.json(&json!({ "worker": id, "changed": changed }));
                } else {
                    let word = if changed { "claims no more" } else { "is draining already" };
                    output.line(&format!("worker {id} {word}; it holds {} steps.", worker.running));
                }
                Ok(())
            }
        }
    }
}

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
        let rows = leases.iter().map(|l| {
            vec![
                Cell::id(l.run_id),
                Cell::new(&l.step),
                Cell::new(l.attempt),
                Cell::new(format!("{} {}", l.worker_id, l.worker.as_deref().unwrap_or_default())),
                Cell::time(l.claimed_at),
                Cell::new(length(l.claimed_at, None)),
                Cell::time(l.expires_at),
            ]
        });
        output.table(&["RUN", "STEP", "ATTEMPT", "WORKER", "CLAIMED", "FOR", "UNTIL AT LEAST"], rows.collect());
        Ok(())
    }
}
