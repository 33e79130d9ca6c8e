//! `up`: everything on this machine.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use longhaul_scheduler::Scheduler;
use longhaul_schema::{Database, migrate};
use longhaul_worker::shutdown_signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Context, Failure, process::WorkArguments};
use crate::embedded::ClusterOptions;

/// Options of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul up
  longhaul up --data /var/lib/longhaul --workers 4 --allow-command sha256sum

The data stays in the folder: the next `up` goes on where this one stopped.
Started by root, PostgreSQL runs as user postgres or nobody.")]
pub(super) struct Up {
    /// Folder of the data.
    #[arg(long, default_value = ".longhaul", value_name = "FOLDER")]
    data: PathBuf,
    /// Workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    workers: u16,
    /// Listen on this port of 127.0.0.1 as well, without a password.
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    work: WorkArguments,
}

impl Up {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut options = ClusterOptions::new(&self.data).set("shared_buffers", "256MB");
        if let Some(port) = self.port {
            options = options.tcp_port(port);
        }
        // From here on signals are ours: the server is stopped last, whatever comes.
        let stop = CancellationToken::new();
        let signalled = stop.clone();
        tokio::spawn(async move {
            shutdown_signal().await;
            signalled.cancel();
        });
        let mut cluster = options.start().await?;
        let config = context.connection.apply(cluster.config()?)?;
        let done = migrate::migrate(&Database::new(&config)?).await;
        let outcome = match done {
            Ok(migrated) => {
                let output = context.output;
                output.line(&format!(
                    "Longhaul is up: PostgreSQL {}, schema version {}.",
                    cluster.version(),
                    migrated.version
                ));
                output.line(&format!("  psql      {}", cluster.psql_line()));
                output.line(&format!(
                    "  longhaul  DATABASE_URL=\"{}\" longhaul list",
                    cluster.connection_string("longhaul")
                ));
                output.line("Ctrl-C stops it.");
                self.work(&config, &stop).await
            }
            Err(error) => Err(error.into()),
        };
        cluster.stop().await;
        outcome
    }

    /// Runs scheduler and workers until they are told to stop. When one of them fails, all stop.
    async fn work(&self, config: &longhaul_schema::Config, stop: &CancellationToken) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        let mut scheduler_config = config.clone();
        scheduler_config.retry_for = Duration::from_secs(30);
        let scheduler = Scheduler::new(&scheduler_config)?;
        // The scheduler outlives the workers, whose last steps may need its chores.
        let scheduler_stop = CancellationToken::new();
        let stopped = scheduler_stop.clone();
        let scheduler = tokio::spawn(scheduler.run_until(async move { stopped.cancelled().await }));
        for number in 1..=self.workers {
            let worker = self.work.builder(config)?.name(format!("up-{number}")).build()?;
            let stopped = stop.clone();
            tasks.spawn(worker.run_until(async move { stopped.cancelled().await }));
        }
        let mut outcome = Ok(());
        if tasks.is_empty() {
            stop.cancelled().await;
        }
        while let Some(ended) = tasks.join_next().await {
            stop.cancel();
            match ended {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => outcome = Err(error.into()),
                Err(error) => outcome = Err(Failure::new(1, format!("a worker broke down: {error}"))),
            }
        }
        scheduler_stop.cancel();
        match scheduler.await {
            Ok(Ok(())) => outcome,
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(Failure::new(1, format!("the scheduler broke down: {error}"))),
        }
    }
}
