//! Torture: a fleet of worker processes under a nemesis, and a checker over what they recorded outside the database.
//!
//! ```text
//! ./ops/torture --seed 7 --seconds 120
//! ```
//!
//! The load uses chains, diamonds, retries, snoozes, timeouts, delays and priorities. The nemesis kills and freezes workers, cuts
//! connections, and crashes the server. Then all is left in peace, and the checker asks whether each guarantee held. The same seed
//! gives the same load and the same faults; when they meet depends on the machine.

mod checker;
mod load;
mod nemesis;
mod record;
mod worker;

use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use longhaul::{Client, Database, Scheduler, migrate};
use longhaul_ops::embedded::{ClusterOptions, temporary_folder};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A fleet under a nemesis, and a checker.
#[derive(Debug, Parser)]
#[command(name = "torture")]
struct Arguments {
    /// Seed of load and faults; a fresh one, which is printed, by default.
    #[arg(long)]
    seed: Option<u64>,
    /// How long load and faults last.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Be a worker process; started by the program itself.
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
    /// Given by `cargo test`; without meaning.
    #[arg(hide = true)]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Some(record) = &arguments.worker {
        runtime.block_on(worker::run(record));
        return ExitCode::SUCCESS;
    }
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("seed {seed}, {} s, {} workers", arguments.seconds, arguments.workers);
    match runtime.block_on(torture(&arguments, seed)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("repeat it with: ./ops/torture --seed {seed} --seconds {}", arguments.seconds);
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn torture(arguments: &Arguments, seed: u64) -> Result<bool, Box<dyn Error>> {
    let folder = temporary_folder()?;
    let records = folder.path().join("records");
    std::fs::create_dir(&records)?;
    let mut cluster =
        ClusterOptions::new(folder.path()).set("fsync", "off").set("max_connections", "200").start().await?;
    let mut config = cluster.config()?;
    config.retry_for = Duration::from_secs(120);
    migrate::migrate(&Database::new(&config)?).await?;
    let client = Client::connect(&config).await?;
    load::deploy(&client).await?;
    let schedulers =
        [(); 2].map(|()| Scheduler::new(&config).map(|s| tokio::spawn(s.run_until(std::future::pending()))));

    let mut random = StdRng::seed_from_u64(seed);
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let starting = tokio::spawn(load::start_runs(client.clone(), random.random(), until));
    let mut fleet = nemesis::Fleet::start(arguments.workers, &config, &records)?;
    let faults = nemesis::rage(&mut fleet, &mut cluster, &mut random, until).await?;
    fleet.heal()?;
    let accepted = starting.await?;

    let in_time = load::wait_for_end(&client, Duration::from_secs(120)).await?;
    fleet.stop().await?;
    for scheduler in schedulers {
        scheduler?.abort();
    }
    let verdict = checker::check(&client, &records, &accepted, in_time).await?;
    cluster.stop().await;
    println!("faults: {faults}");
    println!("{verdict}");
    Ok(verdict.holds())
}
