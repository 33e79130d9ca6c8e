//! `up`: everything on this machine.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use longhaul_scheduler::Scheduler;
use longhaul_schema::{Config, Database, migrate, retry::Backoff};
use longhaul_worker::shutdown_signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Context, Failure, process::WorkArguments, serve::open_in_browser};
use crate::{
    embedded::{Cluster, ClusterOptions},
    serve::{ServeError, ServeOptions, Server},
    shell::quoted,
};

/// Options of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul up --open
  longhaul up --data /var/lib/longhaul --workers 4 --allow-command sha256sum

The data stays in the folder: the next `up` goes on where this one stopped.
One `up` at a time uses a folder (exit code 4). A server that ends by itself is
started again.
Started by root, PostgreSQL runs as user postgres or nobody.")]
pub(super) struct Up {
    /// Folder of the data.
    #[arg(long, default_value = ".longhaul", value_name = "FOLDER")]
    data: PathBuf,
    /// Workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    workers: u16,
    /// Listen on this port of 127.0.0.1 as well; the password stands in the folder.
    #[arg(long)]
    port: Option<u16>,
    /// Serve the API and the console at this address.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Serve neither API nor console.
    #[arg(long, conflicts_with_all = ["listen", "open"])]
    no_serve: bool,
    /// Open the console in the browser.
    #[arg(long)]
    open: bool,
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
        let outcome = self.run_on(context, &mut cluster, &stop).await;
        cluster.stop().await;
        outcome
    }

    async fn run_on(&self, context: &Context, cluster: &mut Cluster, stop: &CancellationToken) -> Result<(), Failure> {
        let config = context.connection.apply(cluster.config()?)?;
        let migrated = migrate::migrate(&Database::new(&config)?).await?;
        let output = context.output;
        output.line(&format!("Longhaul is up: PostgreSQL {}, schema version {}.", cluster.version(), migrated.version));
        output.line(&format!("  psql      {}", cluster.psql_line()));
        output.line(&format!("  longhaul  export DATABASE_URL=\"{}\"", cluster.connection_string("longhaul")));
        if let (Some(port), Some(file)) = (self.port, cluster.password_file()) {
            let file = quoted(&file.to_string_lossy()).into_owned();
            output.line(&format!(
                "  TCP       PGPASSWORD=\"$(cat {file})\" psql -h 127.0.0.1 -p {port} -U longhaul longhaul"
            ));
        }
        let server = self.bind(&config).await?;
        if let Some(server) = &server {
            output.line(&format!("  console   {}", server.url()));
            if self.open {
                open_in_browser(&server.url());
            }
        }
        output.line("Ctrl-C stops it.");
        let stopped = stop.clone();
        let served = server.map(|server| tokio::spawn(server.run_until(async move { stopped.cancelled().await })));
        let outcome = tokio::select! {
            outcome = self.work(&config, stop) => outcome,
            failure = keep_running(cluster) => Err(failure),
        };
        stop.cancel();
        if let Some(served) = served
            && let Ok(Err(error)) = served.await
        {
            tracing::error!(%error, "the console was not served to the end");
        }
        outcome
    }

    /// The server of API and console. When nobody said where, a port that is taken is no reason to do without: another one is taken.
    async fn bind(&self, config: &Config) -> Result<Option<Server>, Failure> {
        if self.no_serve {
            return Ok(None);
        }
        match Server::bind(config, ServeOptions::on(self.listen)).await {
            Err(ServeError::Listen { address, error })
                if address.port() == DEFAULT_PORT && address.ip().is_loopback() =>
            {
                tracing::warn!(%address, %error, "the console is served at another port");
                let any = SocketAddr::new(address.ip(), 0);
                Ok(Some(Server::bind(config, ServeOptions::on(any)).await?))
            }
            bound => Ok(Some(bound?)),
        }
    }

    /// Runs scheduler and workers until they are told to stop. When one of them ends by itself, all stop.
    async fn work(&self, config: &Config, stop: &CancellationToken) -> Result<(), Failure> {
        // The scheduler outlives the workers, whose last steps may need its chores.
        let scheduler_stop = CancellationToken::new();
        let stopped = scheduler_stop.clone();
        let mut scheduler = tokio::spawn(Scheduler::new(config)?.run_until(async move { stopped.cancelled().await }));
        let mut workers = JoinSet::new();
        for number in 1..=self.workers {
            let worker = self.work.builder(config)?.name(format!("up-{number}")).build()?;
            let stopped = stop.clone();
            workers.spawn(worker.run_until(async move { stopped.cancelled().await }));
        }
        self.work.hide_secrets();
        let mut outcome = Ok(());
        let mut scheduled = None;
        loop {
            tokio::select! {
                ended = &mut scheduler, if scheduled.is_none() => {
                    stop.cancel();
                    scheduled = Some(judge("scheduler", ended));
                }
                Some(ended) = workers.join_next() => {
                    stop.cancel();
                    outcome = outcome.and(judge("worker", ended.map(|ended| ended.map(|_| ()))));
                }
                () = stop.cancelled(), if workers.is_empty() => break,
            }
        }
        scheduler_stop.cancel();
        outcome.and(match scheduled {
            Some(scheduled) => scheduled,
            None => judge("scheduler", scheduler.await),
        })
    }
}

/// Where the console is when nobody says.
const DEFAULT_PORT: u16 = 7070;

/// What came of a task.
fn judge(what: &str, ended: Result<Result<(), longhaul_schema::Error>, tokio::task::JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Failure::new(1, format!("a {what} broke down: {error}"))),
    }
}

/// A server that ended less than this after it came up has not healed.
const HEALTHY: Duration = Duration::from_secs(60);

/// How often in a row a server may end, or not come up.
const TRIES: u32 = 5;

/// Starts the server again whenever it ends by itself: killed for want of memory, or after a full disk. Workers and scheduler
/// wait for it meanwhile. Completes when that is of no use.
async fn keep_running(cluster: &mut Cluster) -> Failure {
    let mut backoff = Backoff::default();
    let mut tries = 0;
    loop {
        let up = Instant::now();
        cluster.ended().await;
        if up.elapsed() > HEALTHY {
            (tries, backoff) = (0, Backoff::default());
        }
        tries += 1;
        if tries > TRIES {
            return Failure::new(1, "the server keeps ending; its log is postgres.log in the data folder");
        }
        tracing::error!("the server ended by itself; it is started again");
        tokio::time::sleep(backoff.next_wait()).await;
        if let Err(error) = cluster.start().await {
            tracing::error!(%error, "the server did not come up");
        }
    }
}
