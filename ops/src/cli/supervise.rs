//! `supervise`: keeps worker processes alive. What died is replaced, and what hangs is ended and replaced; all that the
//! processes share is the database.

use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use clap::Args;
use longhaul_schema::{Database, Span, backoff::Backoff};
use longhaul_worker::{hostname, shutdown_signal};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
};

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

/// The waits before successors of processes that keep ending.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

impl Supervise {
    /// The loop only selects: what asks the database is a task of its own, so that a database that does not answer keeps
    /// neither the dead from being replaced nor a stop from being obeyed.
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = Database::new(&context.connection.process_config()?.pool_size(2))?;
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..self.processes {
            let child = Some(self.start(context)?);
            let (started, again_at) = (Instant::now(), Instant::now());
            places.push(Place { child, started, backoff: Backoff::new(WAITS.0, WAITS.1), again_at });
        }
        let (watched_out, watched) = watch::channel(Watched::of(&places));
        let (hung_out, mut hung) = mpsc::channel(1);
        let every = self.every.as_duration().max(Duration::from_millis(100));
        tokio::spawn(look_for_hung(database.clone(), every, watched, hung_out));
        tokio::spawn(report(database));
        let mut quick = tokio::time::interval(Duration::from_millis(100));
        let mut stop = std::pin::pin!(shutdown_signal());
        loop {
            tokio::select! {
                () = &mut stop => return self.stop(places).await,
                _ = quick.tick() => {
                    self.replace(context, &mut places);
                    watched_out.send_replace(Watched::of(&places));
                }
                Some(pids) = hung.recv() => end_hung(&mut places, &pids),
            }
        }
    }

    fn start(&self, context: &Context) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).envs(context.connection.variables()).kill_on_drop(true);
        parent::end_with_parent(command.as_std_mut(), libc::SIGTERM);
        let child = command.spawn().map_err(|e| Failure::usage(format!("{}: {e}", self.program[0])))?;
        tracing::info!(pid = child.id(), program = self.program[0], "process started");
        Ok(child)
    }

    /// Takes note of processes that ended, and starts others in their places.
    fn replace(&self, context: &Context, places: &mut [Place]) {
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
                    place.backoff = Backoff::new(WAITS.0, WAITS.1);
                }
                place.child = None;
                place.again_at = Instant::now() + place.backoff.next_wait();
            }
            if Instant::now() >= place.again_at {
                match self.start(context) {
                    Ok(child) => (place.child, place.started) = (Some(child), Instant::now()),
                    Err(failure) => {
                        tracing::error!(reason = %failure, "process cannot be started; it is tried again");
                        place.again_at = Instant::now() + place.backoff.next_wait();
                    }
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

/// The processes whose health is asked for.
struct Watched {
    pids: Vec<i32>,
    /// How long the oldest of them has lived.
    since: Duration,
}

impl Watched {
    fn of(places: &[Place]) -> Self {
        let pids = places.iter().filter_map(|place| place.child.as_ref()?.id());
        Self {
            pids: pids.filter_map(|pid| i32::try_from(pid).ok()).collect(),
            since: places.iter().map(|place| place.started.elapsed()).max().unwrap_or_default(),
        }
    }
}

/// Asks again and again whose heartbeat is overdue. While the database is away nobody can say who hangs.
async fn look_for_hung(
    database: Database,
    every: Duration,
    watched: watch::Receiver<Watched>,
    hung: mpsc::Sender<Vec<u32>>,
) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (pids, since) = {
            let watched = watched.borrow();
            (watched.pids.clone(), watched.since)
        };
        let asked = async { database.calls().await?.overdue_processes(&hostname(), &pids, since).await };
        match asked.await {
            Ok(found) if found.is_empty() => {}
            Ok(found) => {
                let found = found.into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect();
                if hung.send(found).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "the health of the processes is unknown"),
        }
    }
}

/// Once a minute one set of figures for all processes that share the queues, in the log.
async fn report(database: Database) {
    let mut tick = tokio::time::interval(Duration::from_secs(60));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
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
