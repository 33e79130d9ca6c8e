//! `supervise`: keeps worker processes alive. What died is replaced, and what hangs is ended and replaced; all that the
//! processes share is the database.

use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use clap::Args;
use longhaul_schema::{Database, Span, retry::Backoff};
use longhaul_worker::{hostname, shutdown_signal};
use tokio::process::{Child, Command};

use super::{Context, Failure};
use crate::parent;

/// Options of `supervise`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longhaul supervise --processes 4 -- ./my-worker
  longhaul supervise -- longhaul worker --queue default=4..64

A process that ends is replaced, after a growing wait if it keeps ending. A
process whose heartbeat is overdue in the database hangs: it is killed and
replaced; its steps go to others. SIGTERM and SIGINT are passed on.")]
pub(super) struct Supervise {
    /// How many processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,
    /// How often to look at their health.
    #[arg(long, default_value = "5s", value_name = "TIME")]
    every: Span,
    /// How long processes may take to end when they are told to.
    #[arg(long, default_value = "60s", value_name = "TIME")]
    grace: Span,
    /// The program and its arguments, after --.
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// A process, or the wait for its successor.
struct Place {
    child: Option<Child>,
    started: Instant,
    backoff: Backoff,
    again_at: Instant,
}

/// A process that lived for so long was healthy: the wait before its successor begins small again.
const HEALTHY: Duration = Duration::from_secs(60);

impl Supervise {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = Database::new(&context.connection.config()?.pool_size(1))?;
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..self.processes {
            let child = Some(self.start()?);
            let (started, again_at) = (Instant::now(), Instant::now());
            places.push(Place { child, started, backoff: Backoff::default(), again_at });
        }
        let mut health = tokio::time::interval(self.every.as_duration().max(Duration::from_millis(100)));
        let mut figures = tokio::time::interval(Duration::from_secs(60));
        let mut quick = tokio::time::interval(Duration::from_millis(100));
        let mut stop = std::pin::pin!(shutdown_signal());
        loop {
            tokio::select! {
                () = &mut stop => return self.stop(places).await,
                _ = quick.tick() => self.replace(&mut places),
                _ = figures.tick() => report(&database).await,
                _ = health.tick() => {
                    // While the database is away nobody can say who hangs.
                    match overdue(&database, &places).await {
                        Ok(hung) => end_hung(&mut places, &hung),
                        Err(error) => tracing::warn!(%error, "the health of the processes is unknown"),
                    }
                }
            }
        }
    }

    fn start(&self) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).kill_on_drop(true);
        parent::end_with_parent(command.as_std_mut(), libc::SIGTERM);
        let child = command.spawn().map_err(|e| Failure::usage(format!("{}: {e}", self.program[0])))?;
        tracing::info!(pid = child.id(), program = self.program[0], "process started");
        Ok(child)
    }

    /// Takes note of processes that ended, and starts others in their places.
    fn replace(&self, places: &mut [Place]) {
        for place in places {
            if let Some(child) = &mut place.child {
                let pid = child.id();
                match child.try_wait() {
                    Ok(None) => continue,
                    Ok(Some(status)) => {
                        tracing::warn!(pid, reason = %describe(status), "process ended; it is replaced")
                    }
                    Err(error) => tracing::error!(pid, %error, "process is out of sight; it is replaced"),
                }
                if place.started.elapsed() > HEALTHY {
                    place.backoff = Backoff::default();
                }
                place.child = None;
                place.again_at = Instant::now() + place.backoff.next_wait();
            }
            if Instant::now() >= place.again_at {
                match self.start() {
                    Ok(child) => (place.child, place.started) = (Some(child), Instant::now()),
                    Err(_) => place.again_at = Instant::now() + place.backoff.next_wait(),
                }
            }
        }
    }

    /// Passes the end on, and waits for it.
    async fn stop(&self, places: Vec<Place>) -> Result<(), Failure> {
        let children: Vec<Child> = places.into_iter().filter_map(|place| place.child).collect();
        tracing::info!(processes = children.len(), "stopping");
        let ends = children.into_iter().map(|mut child| async move {
            if let Some(pid) = child.id() {
                // SAFETY: kill only sends a signal; the child is ours and not yet waited for, so the id is its own.
                unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
            }
            if tokio::time::timeout(self.grace.as_duration(), child.wait()).await.is_err() {
                tracing::warn!(pid = child.id(), "process did not end in time; it is killed");
                let _ = child.kill().await;
            }
        });
        futures::future::join_all(ends).await;
        Ok(())
    }
}

/// One set of figures for all processes that share the queues, in the log.
async fn report(database: &Database) {
    let figures = async { database.calls().await?.queue_figures(database.tenant()).await };
    match figures.await {
        Ok(queues) => {
            for (queue, workers, figure) in queues.into_iter().filter(|(_, workers, _)| *workers > 0) {
                let (running, slots, completed, failed) =
                    (figure.running, figure.slots, figure.completed, figure.failed);
                tracing::info!(queue, workers, running, slots, completed, failed, "figures");
            }
        }
        Err(error) => tracing::debug!(%error, "no figures"),
    }
}

/// Those of our processes whose heartbeat is overdue.
async fn overdue(database: &Database, places: &[Place]) -> Result<Vec<u32>, longhaul_schema::Error> {
    let pids: Vec<i32> = places
        .iter()
        .filter_map(|place| place.child.as_ref()?.id())
        .filter_map(|pid| i32::try_from(pid).ok())
        .collect();
    let since = places.iter().map(|place| place.started.elapsed()).max().unwrap_or_default();
    let hung = database.calls().await?.overdue_processes(&hostname(), &pids, since).await?;
    Ok(hung.into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect())
}

fn end_hung(places: &mut [Place], hung: &[u32]) {
    for place in places {
        let Some(child) = &mut place.child else { continue };
        if child.id().is_some_and(|pid| hung.contains(&pid)) {
            tracing::warn!(pid = child.id(), "process hangs: its heartbeat is overdue; it is killed and replaced");
            let _ = child.start_kill();
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".into(),
    }
}
