//! `migrate`, `worker`, `scheduler`: what runs on servers.

use std::{net::SocketAddr, str::FromStr};

use clap::Args;
use longhaul_scheduler::Scheduler;
use longhaul_schema::{Config, Database, Span, migrate};
use longhaul_worker::{Slots, Worker, WorkerBuilder, shutdown_signal};
use serde_json::json;

use super::{Context, Failure, fleet::WorkerAction};
use crate::{
    handlers::{Permissions, built_in},
    metrics::{self, Exporter, Metrics},
    secrets,
};

/// Options of `migrate`.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Print the SQL that would be run, and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// Install also into a schema that holds other things. They are left alone.
    #[arg(long)]
    share_schema: bool,
}

impl Migrate {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = Database::new(&context.connection.config()?.pool_size(1))?;
        let options = migrate::Options::default().share_schema(self.share_schema);
        if self.dry_run {
            let sql = migrate::plan_with(&database, options).await?;
            let sql = if sql.is_empty() { "-- nothing to do\n" } else { &sql };
            context.output.text(sql.trim_end());
            return Ok(());
        }
        let done = migrate::migrate_with(&database, options).await?;
        if context.output.json {
            context
                .output
                .json(&json!({ "version": done.version, "applied": done.applied, "functions": done.functions }));
        } else if done.applied.is_empty() && !done.functions {
            context.output.line(&format!("Schema {} is up to date (version {}).", database.schema(), done.version));
        } else {
            context.output.line(&format!(
                "Schema {} is at version {}: {} migrations applied, functions {}.",
                database.schema(),
                done.version,
                done.applied.len(),
                if done.functions { "installed" } else { "unchanged" }
            ));
        }
        Ok(())
    }
}

/// A queue with its slots, as in `mail=4` or `mail=4..64`.
#[derive(Clone, Debug)]
pub(super) struct QueueSlots {
    name: String,
    slots: Slots,
}

impl FromStr for QueueSlots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, slots) = text.split_once('=').unwrap_or((text, "16"));
        let number = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| format!("{text:?} is not a number of slots; write NAME=SLOTS, as in mail=4 or mail=4..64"))
        };
        let slots = match slots.split_once("..") {
            Some((floor, ceiling)) => Slots::between(number(floor)?, number(ceiling)?),
            None => number(slots)?.into(),
        };
        Ok(Self { name: name.into(), slots })
    }
}

/// What a worker does and may do; shared by `worker` and `up`.
#[derive(Clone, Debug, Args)]
pub(super) struct WorkArguments {
    /// A queue and how many of its steps run at a time, or from how many to how many by demand (default=4..64); may be given
    /// several times.
    #[arg(long = "queue", value_name = "NAME=SLOTS", default_value = "default=16")]
    queues: Vec<QueueSlots>,
    /// A program that handler `command` may run, exactly as flows name it; may be given several times. It is looked for once,
    /// when the worker starts.
    #[arg(long = "allow-command", value_name = "PROGRAM")]
    programs: Vec<String>,
    /// A name of an environment variable that flows may set for programs; may be given several times.
    #[arg(long = "allow-env", value_name = "NAME")]
    variables: Vec<String>,
    /// A variable of the worker's own environment that programs are given, beside PATH, HOME, LANG, TZ and the like; may be
    /// given several times.
    #[arg(long = "pass-env", value_name = "NAME")]
    passed_variables: Vec<String>,
    /// Lets handler `http` call private, loopback and link-local addresses.
    #[arg(long)]
    allow_private_addresses: bool,
    /// How often the worker says that it lives; its steps go to others after three missed times.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    heartbeat: Span,
    /// How long a shutdown may take. Steps that still run when its last fifth begins are handed back.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    grace: Span,
}

impl WorkArguments {
    /// All that is needed of the environment has been read.
    pub(super) fn hide_secrets(&self) {
        if !self.programs.is_empty() {
            secrets::hide();
        }
    }

    pub(super) fn builder(&self, config: &Config) -> Result<WorkerBuilder, Failure> {
        let permissions = Permissions {
            programs: self.programs.clone(),
            variables: self.variables.clone(),
            passed_variables: self.passed_variables.clone(),
            private_addresses: self.allow_private_addresses,
        };
        let mut builder = Worker::builder(config)
            .registry(built_in(&permissions)?)?
            .heartbeat(self.heartbeat.as_duration())
            .grace(self.grace.as_duration());
        for queue in &self.queues {
            builder = builder.queue(&queue.name, queue.slots)?;
        }
        Ok(builder)
    }
}

/// Options of `worker`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul worker --allow-command sha256sum --allow-command gzip
  longhaul worker --queue default=32 --queue mail=4 --heartbeat 10s
  longhaul worker list

SIGTERM and SIGINT stop it: it finishes what runs, for as long as --grace
allows, and hands the rest back with no attempt consumed. A second signal,
half a second later or more, ends it at once.")]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct WorkerCommand {
    #[command(subcommand)]
    action: Option<WorkerAction>,
    #[command(flatten)]
    work: WorkArguments,
    /// A name for people; the host's name by default.
    #[arg(long)]
    name: Option<String>,
    /// Do only steps of this handler; may be given several times.
    #[arg(long = "handler", value_name = "NAME")]
    handlers: Vec<String>,
    /// Tell metrics of this process to Prometheus at /metrics of this address, as in 127.0.0.1:9464.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Never do the chores (timers, expired leases, schedules), which a worker does when nobody else does.
    #[arg(long)]
    no_chores: bool,
}

impl WorkerCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(action) = self.action {
            return action.run(context).await;
        }
        let mut builder = self.work.builder(&context.connection.process_config()?)?;
        if let Some(name) = self.name {
            builder = builder.name(name);
        }
        if !self.handlers.is_empty() {
            let names: Vec<&str> = self.handlers.iter().map(String::as_str).collect();
            builder = builder.allow(&names)?;
        }
        if self.no_chores {
            builder = builder.without_chores();
        }
        let worker = builder.build()?;
        let observer = worker.observer();
        // Ends with this function.
        let _metrics = match self.metrics {
            Some(listen) => Some(export(listen, move || std::future::ready(Ok(metrics::worker(&observer)))).await?),
            None => None,
        };
        self.work.hide_secrets();
        let summary = worker.run_until(shutdown_signal()).await?;
        let (settled, lost, cancelled) = (summary.settled, summary.lost, summary.cancelled);
        if summary.drained {
            tracing::info!(settled, lost, cancelled, "worker ended: it was drained");
        } else {
            tracing::info!(settled, lost, cancelled, "worker ended");
        }
        Ok(())
    }
}

/// Options of `scheduler`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul scheduler
  longhaul scheduler --metrics 127.0.0.1:9464    of the whole installation, as `serve` tells them")]
pub(super) struct SchedulerCommand {
    /// Tell metrics of the installation to Prometheus at /metrics of this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

impl SchedulerCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.connection.process_config()?;
        let _metrics = match self.metrics {
            Some(listen) => {
                let database = Database::new(&config.clone().pool_size(1))?;
                Some(
                    export(listen, move || {
                        let database = database.clone();
                        async move { metrics::installation(&database).await }
                    })
                    .await?,
                )
            }
            None => None,
        };
        Ok(Scheduler::new(&config)?.run_until(shutdown_signal()).await?)
    }
}

/// Tells metrics at an address, which was asked for: when it cannot be had, that is an error.
async fn export<F>(listen: SocketAddr, gather: impl Fn() -> F + Send + Sync + 'static) -> Result<Exporter, Failure>
where
    F: Future<Output = Result<Metrics, longhaul_schema::Error>> + Send + 'static,
{
    Exporter::start(listen, gather)
        .await
        .map_err(|error| Failure::new(1, format!("cannot listen on {listen}: {error}")))
}
