//! The quickstart: one durable run per file of a folder, with a worker killed in the middle.
//!
//! ```text
//! ./ops/quickstart [FOLDER]
//! ```
//!
//! Each run computes the SHA-256 of its file, compresses it, decompresses it and compares. This program starts a private
//! PostgreSQL server and a scheduler, and itself twice more as a worker process; one of these it kills with SIGKILL while the
//! runs are under way. Nothing is lost: the leases expire, and the other worker does the steps.

mod files;
mod progress;
mod report;
mod steps;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    time::{Duration, Instant},
};

use clap::Parser;
use longhaul::{Client, Config, Database, Flow, Retry, Scheduler, Step, Worker, migrate, shutdown_signal};
use longhaul_embedded::ClusterOptions;

/// One durable run per file of a folder: SHA-256, compress, decompress, compare. In the middle a worker is killed.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
struct Arguments {
    /// The folder; this project's own tree by default.
    folder: Option<PathBuf>,
    /// Where the database, the work files and the manifest go.
    #[arg(long, default_value = ".longhaul", value_name = "FOLDER")]
    data: PathBuf,
    /// Be a worker process of a quickstart; started by the program itself.
    #[arg(long, hide = true)]
    worker: bool,
}

/// A short lease, so that the kill is noticed while one looks on. The default is 90 s.
const HEARTBEAT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder().parse_lossy(std::env::var("RUST_LOG").unwrap_or("error".into())),
        )
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let outcome =
        runtime.block_on(async { if arguments.worker { work(&arguments.data).await } else { run(arguments).await } });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}

/// What a worker process does.
async fn work(data: &Path) -> Result<bool, Box<dyn Error>> {
    Worker::builder(&Config::from_env()?)
        .state(steps::Work::new(data))
        .handler("file.digest", steps::digest)
        .handler("file.compress", steps::compress)
        .handler("file.verify", steps::verify)
        .queue("default", 8)
        .heartbeat(HEARTBEAT)
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(true)
}

async fn run(arguments: Arguments) -> Result<bool, Box<dyn Error>> {
    let folder = arguments.folder.unwrap_or_else(|| PathBuf::from("."));
    let data = &arguments.data;
    std::fs::create_dir_all(data)?;
    let listing = files::list(&folder, data)?;
    if listing.is_empty() {
        return Err(format!("{} has no files", folder.display()).into());
    }
    println!("{} files in {}", listing.len(), folder.display());

    let mut cluster = ClusterOptions::new(data).set("shared_buffers", "256MB").start().await?;
    println!("PostgreSQL {} is up; look on with: {}", cluster.version(), cluster.psql_line());
    let (config, url) = (cluster.config()?, cluster.connection_string("longhaul"));
    let outcome = tokio::select! {
        outcome = verify_all(&config, &url, data, &listing) => outcome,
        () = shutdown_signal() => Err("stopped".into()),
    };
    let psql = cluster.psql_line();
    cluster.stop().await;
    let report = outcome?;
    report.print(data)?;
    println!(
        "\nThe database is kept. To look closer:\n  cargo run --release --bin longhaul -- up --data {}\n  {psql}",
        data.display()
    );
    println!("  select state, count(*) from longhaul.runs group by state;\n  select * from longhaul.attempt;");
    Ok(report.all_verified())
}

/// Starts the runs, kills a worker in the middle, and waits for all runs to end.
async fn verify_all(
    config: &Config,
    url: &str,
    data: &Path,
    listing: &[files::FileInput],
) -> Result<report::Report, Box<dyn Error>> {
    migrate::migrate(&Database::new(config)?).await?;
    let client = Client::connect(config).await?;
    let retry = Retry { attempts: 3, backoff: Duration::from_millis(200).into(), ..Retry::default() };
    let flow = Flow::new("verify-file", 1)
        .step(Step::new("digest", "file.digest").retry(retry.clone()))
        .step(Step::new("compress", "file.compress").retry(retry.clone()).after("digest"))
        .step(Step::new("verify", "file.verify").retry(retry).after("compress"));
    client.deploy(&flow).await?;

    let scheduler = tokio::spawn(Scheduler::new(config)?.run_until(std::future::pending()));
    let started = Instant::now();
    let begun = client.start_many("verify-file", listing).await?;
    if let Some((place, reason)) = begun.refused.first() {
        return Err(format!("{} was refused: {reason}", listing[*place].display()).into());
    }

    let mut workers = [WorkerProcess::start(url, data)?, WorkerProcess::start(url, data)?];
    let progress = progress::Progress::new(&client, begun.ids())?;
    let mut killed = false;
    while !progress.update().await? {
        if !killed && progress.share() >= 0.1 {
            // Frozen first, so that what it holds stays as it is while we look.
            workers[0].signal(libc::SIGSTOP);
            let (pid, held) = (workers[0].id(), progress.steps_held_by(workers[0].id()).await?);
            if held > 0 {
                progress.say(&format!("killing worker process {pid} with SIGKILL while it does {held} steps"));
                workers[0].kill()?;
                killed = true;
            } else {
                workers[0].signal(libc::SIGCONT);
            }
        }
        if scheduler.is_finished() {
            return Err("the scheduler ended".into());
        }
        tokio::time::sleep(Duration::from_millis(if killed { 50 } else { 2 })).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    progress.finish();
    for worker in &mut workers {
        worker.stop().await?;
    }
    scheduler.abort();
    report::Report::read(&client, &begun, listing, seconds, killed).await
}

/// This program, as a worker. Killed when dropped.
struct WorkerProcess(Child);

impl WorkerProcess {
    fn start(url: &str, data: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg("--data").arg(data).env("DATABASE_URL", url);
        Ok(Self(command.spawn()?))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL: it cannot say good-bye.
    fn kill(&mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill has no memory preconditions; the process is our own child, and is waited for only after this.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// SIGTERM: it leaves in good order.
    async fn stop(&mut self) -> std::io::Result<()> {
        if self.0.try_wait()?.is_none() {
            self.signal(libc::SIGTERM);
        }
        while self.0.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
