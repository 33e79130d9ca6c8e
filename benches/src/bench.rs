//! What the measures share: the server, a load of steps that do nothing, workers, rounds.

use std::{
    error::Error,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use longhaul::{
    Client, Config, Database, Flow, Observer, Scheduler, Step, StepContext, StepError, Summary, Worker,
    calls::NewWorker, connect::Connection, migrate,
};
use longhaul_ops::embedded::{Cluster, ClusterOptions, temporary_folder};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// How much work a measure does.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Runs that are drained in each round.
    pub runs: usize,
    /// Rounds of each variant.
    pub rounds: usize,
    /// Millions of steps where a measure is about a full database.
    pub millions: f64,
}

impl Scale {
    pub fn full() -> Self {
        Self { runs: 100_000, rounds: 3, millions: 2.0 }
    }

    pub fn quick() -> Self {
        Self { runs: 10_000, rounds: 1, millions: 0.1 }
    }
}

/// A database to measure, with the folder for plots.
pub struct Bench {
    pub config: Config,
    pub client: Client,
    pub scale: Scale,
    pub plots: Option<PathBuf>,
    scheduler: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.scheduler.cancel();
    }
}

impl Bench {
    /// A private server, unless `DATABASE_URL` names one; with a scheduler, as every installation has.
    pub async fn start(scale: Scale, plots: Option<PathBuf>) -> Outcome<(Self, Option<Server>)> {
        if let Some(folder) = &plots {
            std::fs::create_dir_all(folder)?;
        }
        let mut server = None;
        let config = match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Config::from_url(&url)?,
            _ => {
                let folder = temporary_folder()?;
                let options = ClusterOptions::new(folder.path())
                    .set("shared_buffers", "1GB")
                    .set("max_wal_size", "8GB")
                    .set("max_connections", "2500");
                server.insert(Server { cluster: options.start().await?, _folder: folder }).cluster.config()?
            }
        };
        migrate::migrate(&Database::new(&config)?).await?;
        let client = Client::connect(&config).await?;
        let scheduler = CancellationToken::new();
        let stopped = scheduler.clone();
        tokio::spawn(Scheduler::new(&config)?.run_until(async move { stopped.cancelled().await }));
        Ok((Self { config, client, scale, plots, scheduler }, server))
    }

    pub fn stop_scheduler(&self) {
        self.scheduler.cancel();
    }

    pub async fn connection(&self) -> Outcome<Connection> {
        let mut connection = self.client.database().connection().await?;
        connection.set_call_timeout(Duration::from_secs(3600));
        Ok(connection)
    }

    /// One value that a query gives.
    pub async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, query: &str) -> Outcome<T> {
        Ok(self.connection().await?.query_one(query, &[]).await?.get(0))
    }

    pub async fn settings(&self) -> Outcome<String> {
        self.value(
            "select format('PostgreSQL %s, fsync %s, synchronous_commit %s, shared_buffers %s',
                           current_setting('server_version'), current_setting('fsync'),
                           current_setting('synchronous_commit'), current_setting('shared_buffers'))",
        )
        .await
    }

    /// Deploys a flow of one step that does nothing.
    pub async fn deploy(&self, name: &str, step: Step) -> Outcome<()> {
        self.client.deploy(&Flow::new(name, 1).step(step)).await?;
        Ok(())
    }

    /// Starts runs, and gives runs/s.
    pub async fn start_runs(&self, flow: &str, runs: usize) -> Outcome<f64> {
        let begun = Instant::now();
        let started = self.client.start_many(flow, (0..runs).map(|n| n % 1000)).await?;
        assert!(started.refused.is_empty(), "all runs are accepted");
        Ok(runs as f64 / begun.elapsed().as_secs_f64())
    }

    /// A worker of handlers that do nothing, until it is stopped.
    pub fn serve(&self, queue: &str, slots: usize) -> Outcome<Serving> {
        Serving::of(Worker::builder(&self.config).handler("nothing", nothing).queue(queue, slots).build()?)
    }

    /// Starts runs, drains them with one worker of 1,000 slots, and gives runs/s of the draining.
    pub async fn drain(&self, flow: &str, queue: &str, runs: usize) -> Outcome<f64> {
        self.start_runs(flow, runs).await?;
        self.serve_steps(queue, 1000, runs).await
    }

    /// Steps/s of one worker, until it has completed so many.
    pub async fn serve_steps(&self, queue: &str, slots: usize, steps: usize) -> Outcome<f64> {
        let begun = Instant::now();
        let serving = self.serve(queue, slots)?;
        serving.until_completed(steps).await;
        let rate = steps as f64 / begun.elapsed().as_secs_f64();
        serving.stop().await?;
        Ok(rate)
    }

    /// A worker process of this program.
    pub fn spawn_worker(&self, queue: &str, slots: usize) -> Outcome<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", queue, &slots.to_string()]).env("DATABASE_URL", self.config.connection.to_url());
        Ok(command.stdout(Stdio::null()).spawn()?)
    }

    /// Variants in turn, in both orders; gives the medians.
    pub async fn compare<const N: usize>(
        &self,
        what: &str,
        mut variant: impl AsyncFnMut(usize) -> Outcome<f64>,
    ) -> Outcome<[f64; N]> {
        let bar = progress(what, (self.scale.rounds * N) as u64);
        let mut rates = [const { Vec::new() }; N];
        for round in 0..self.scale.rounds {
            for place in 0..N {
                let which = if round % 2 == 0 { place } else { N - 1 - place };
                rates[which].push(variant(which).await?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(rates.map(median))
    }

    /// Registers a worker that nobody runs: for measures that call the database by hand.
    pub async fn register(&self, queue: &str) -> Outcome<i64> {
        let worker = NewWorker {
            tenant: "default",
            name: "by hand",
            host: "bench",
            pid: 0,
            version: "0",
            queues: &[queue],
            handlers: &["nothing"],
            slots: 1,
            lease: Duration::from_secs(24 * 3600),
        };
        Ok(self.client.database().calls().await?.register_worker(&worker).await?.worker)
    }
}

/// A private server, whose folder is removed with it.
pub struct Server {
    cluster: Cluster,
    _folder: TempDir,
}

impl Server {
    pub async fn stop(mut self) {
        self.cluster.stop().await;
    }
}

/// A worker that runs in this process.
pub struct Serving {
    pub observer: Observer,
    stop: CancellationToken,
    task: JoinHandle<Result<Summary, longhaul::Error>>,
}

impl Serving {
    pub fn of(worker: Worker) -> Outcome<Self> {
        let observer = worker.observer();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
        Ok(Self { observer, stop, task })
    }

    pub fn completed(&self) -> usize {
        self.observer.status().queues.first().map_or(0, |(_, figure)| usize::try_from(figure.completed).unwrap_or(0))
    }

    pub async fn until_completed(&self, steps: usize) {
        while self.completed() < steps {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn stop(self) -> Outcome<Summary> {
        self.stop.cancel();
        Ok(self.task.await??)
    }
}

/// A worker process: works on a queue until it is killed.
pub async fn work(queue: &str, slots: usize) -> Outcome<()> {
    let config = Config::from_url(&std::env::var("DATABASE_URL")?)?;
    Worker::builder(&config)
        .handler("nothing", nothing)
        .queue(queue, slots)
        .build()?
        .run_until(longhaul::shutdown_signal())
        .await?;
    Ok(())
}

pub async fn nothing(_: StepContext, _: Value) -> Result<Value, StepError> {
    Ok(Value::Null)
}

/// A bar on the terminal; nothing where there is none.
pub fn progress(what: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:40} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.tick();
    bar
}

pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Milliseconds that something takes.
pub async fn milliseconds<T>(call: impl Future<Output = T>) -> (T, f64) {
    let begun = Instant::now();
    let value = call.await;
    (value, begun.elapsed().as_secs_f64() * 1000.0)
}

/// Processor time of all processes named postgres on this machine, and of those that they have outlived.
pub fn server_processor_seconds() -> Outcome<f64> {
    let mut ticks = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        // Processes end while we look.
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
        if let Some((_, fields)) = stat.split_once("(postgres) ") {
            let fields: Vec<&str> = fields.split_whitespace().collect();
            // utime, stime, cutime, cstime: see proc(5).
            for field in &fields[11..15] {
                ticks += field.parse::<f64>()?;
            }
        }
    }
    // SAFETY: a plain query of a constant of the system.
    Ok(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
}
