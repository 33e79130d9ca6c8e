//! Starts many runs with handlers that do nothing, drains them, and prints what the database bore.
//!
//! ```text
//! cargo bench --bench load -- --runs 200000
//! cargo bench --bench load -- --runs 20000 --steps 5
//! ```
//!
//! A private server is started with `fsync` and `synchronous_commit` on, unless `DATABASE_URL` names one. Each round starts all
//! runs first and drains them then, so that the two figures do not mix.

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use longhaul::{Client, Config, Flow, Step, StepContext, StepError, Worker, connect::Connection, migrate};
use longhaul_ops::embedded::{Cluster, ClusterOptions, temporary_folder};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Starts many runs, drains them, and prints runs/s and WAL bytes per run.
#[derive(Parser, Debug)]
struct Arguments {
    /// Runs in each round.
    #[arg(long, default_value_t = 100_000)]
    runs: usize,
    /// Steps of each run, one after the other.
    #[arg(long, default_value_t = 1)]
    steps: usize,
    /// Slots of the worker.
    #[arg(long, default_value_t = 1000)]
    slots: usize,
    /// Workers in this process.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Rounds; the medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Writes all figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without meaning.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    start_per_s: f64,
    start_wal_bytes_per_run: f64,
    drain_runs_per_s: f64,
    drain_steps_per_s: f64,
    drain_wal_bytes_per_run: f64,
    claims: u64,
}

async fn nothing(_: StepContext, _: Value) -> Result<Value, StepError> {
    Ok(json!({ "ok": true }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let folder = temporary_folder()?;
    let mut server = None;
    let config = match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Config::from_url(&url)?,
        _ => private_server(folder.path(), &mut server).await?,
    };
    let client = Client::connect(&installed(&config).await?).await?;
    let connection = client.database().connection().await?;
    let settings: String = connection
        .query_one(
            "select format('PostgreSQL %s, fsync %s, synchronous_commit %s, shared_buffers %s',
                           current_setting('server_version'), current_setting('fsync'),
                           current_setting('synchronous_commit'), current_setting('shared_buffers'))",
            &[],
        )
        .await?
        .get(0);
    println!(
        "{settings}; {} runs of {} steps, {} workers with {} slots",
        arguments.runs, arguments.steps, arguments.workers, arguments.slots
    );

    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let round = round(&arguments, &config, &client, &connection).await?;
        println!(
            "round {number}: start {:>7.0} runs/s, {:>5.0} WAL bytes/run; drain {:>7.0} runs/s ({:.0} steps/s), {:>5.0} WAL bytes/run, {} claims",
            round.start_per_s,
            round.start_wal_bytes_per_run,
            round.drain_runs_per_s,
            round.drain_steps_per_s,
            round.drain_wal_bytes_per_run,
            round.claims
        );
        rounds.push(round);
    }
    println!(
        "median:  start {:>7.0} runs/s; drain {:>7.0} runs/s ({:.0} steps/s); {:.0} WAL bytes/run from start to finish",
        median(&rounds, |r| r.start_per_s),
        median(&rounds, |r| r.drain_runs_per_s),
        median(&rounds, |r| r.drain_steps_per_s),
        median(&rounds, |r| r.start_wal_bytes_per_run + r.drain_wal_bytes_per_run),
    );
    if let Some(file) = &arguments.json {
        let record = json!({ "settings": settings, "runs": arguments.runs, "steps": arguments.steps, "slots": arguments.slots, "workers": arguments.workers, "rounds": rounds });
        std::fs::write(file, serde_json::to_string_pretty(&record)?)?;
    }
    if let Some(mut server) = server {
        server.stop().await;
    }
    Ok(())
}

async fn private_server(folder: &std::path::Path, server: &mut Option<Cluster>) -> Result<Config, Box<dyn Error>> {
    let cluster = ClusterOptions::new(folder).set("shared_buffers", "1GB").set("max_wal_size", "8GB").start().await?;
    Ok(server.insert(cluster).config()?)
}

async fn installed(config: &Config) -> Result<Config, Box<dyn Error>> {
    migrate::migrate(&longhaul::Database::new(config)?).await?;
    Ok(config.clone())
}

async fn round(
    arguments: &Arguments,
    config: &Config,
    client: &Client,
    connection: &Connection,
) -> Result<Round, Box<dyn Error>> {
    let mut flow = Flow::new("load", 1).step(Step::new("s0", "nothing"));
    for number in 1..arguments.steps {
        flow = flow.step(Step::new(format!("s{number}"), "nothing").after(format!("s{}", number - 1)));
    }
    flow.version = i32::try_from(arguments.steps)?;
    client.deploy(&flow).await?;
    connection.batch_execute("checkpoint").await?;

    let runs = arguments.runs as f64;
    let (before, begun) = (wal_position(connection).await?, Instant::now());
    let started = client.start_many("load", (0..arguments.runs).map(|n| json!({ "n": n }))).await?;
    assert!(started.refused.is_empty(), "all runs are accepted");
    let (filled, start_seconds) = (wal_position(connection).await?, begun.elapsed().as_secs_f64());

    let stop = CancellationToken::new();
    let begun = Instant::now();
    let workers: Vec<_> = (0..arguments.workers)
        .map(|_| {
            let worker =
                Worker::builder(config).handler("nothing", nothing)?.queue("default", arguments.slots)?.build()?;
            let stop = stop.clone();
            Ok(tokio::spawn(worker.run_until(async move { stop.cancelled().await })))
        })
        .collect::<Result<_, longhaul::Error>>()?;
    let bar = ProgressBar::new(arguments.runs as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} runs {elapsed}")?);
    let drain_seconds = loop {
        // A bounded count: it must not burden the server that is measured.
        let live: i64 = connection
            .query_one("select (select count(*) from longhaul.task) + (select count(*) from longhaul.lease)", &[])
            .await?
            .get(0);
        let seconds = begun.elapsed().as_secs_f64();
        bar.set_position((arguments.runs as u64).saturating_sub(live.unsigned_abs()));
        if live == 0 && open_runs(connection).await? == 0 {
            break seconds;
        }
        tokio::time::sleep(Duration::from_millis(if live > 50_000 { 250 } else { 20 })).await;
    };
    bar.finish_and_clear();
    let drained = wal_position(connection).await?;
    stop.cancel();
    let mut claims = 0;
    for worker in workers {
        claims += worker.await??.claims;
    }
    Ok(Round {
        start_per_s: runs / start_seconds,
        start_wal_bytes_per_run: (filled - before) / runs,
        drain_runs_per_s: runs / drain_seconds,
        drain_steps_per_s: runs * arguments.steps as f64 / drain_seconds,
        drain_wal_bytes_per_run: (drained - filled) / runs,
        claims,
    })
}

async fn open_runs(connection: &Connection) -> Result<i64, Box<dyn Error>> {
    Ok(connection.query_one("select count(*) from longhaul.run where state = 'running'", &[]).await?.get(0))
}

/// Bytes of WAL written since the server was made.
async fn wal_position(connection: &Connection) -> Result<f64, Box<dyn Error>> {
    Ok(connection.query_one("select (pg_current_wal_insert_lsn() - '0/0')::float8", &[]).await?.get(0))
}

fn median(rounds: &[Round], value: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
