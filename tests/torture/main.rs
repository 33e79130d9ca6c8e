//! Torture: a fleet of worker processes under a nemesis, and a checker over what they recorded outside the database.
//!
//! ```text
//! ./ops/torture --seed 7 --minutes 2
//! ./ops/torture --mutants
//! ```
//!
//! The load uses chains, diamonds, children, fan-outs, signals, durable functions, locks, sagas, approvals, budgets, keys, limited
//! queues, schedules, delays, priorities, retries, snoozes, timeouts, retention and two tenants, while operators pause, resume,
//! stop, decide and rename. The nemesis kills and freezes workers, whose clocks are off by an hour, cuts and slows the network, takes
//! all connections, fills the disk, installs the functions anew, and crashes the server. Then all is left in peace, and the checker
//! asks whether each guarantee held. The same seed gives the same load and the same faults; when they meet depends on the
//! machine. Mutants are deliberate faults in the installation: for each, the checker must see what it is there to see.

mod checker;
mod clock;
mod flows;
mod handlers;
mod load;
mod mutants;
mod nemesis;
#[path = "../network/mod.rs"]
mod network;
mod progress;
mod record;
mod volume;
mod watch;
mod worker;

use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Parser;
use longhaul::{Client, Database, Scheduler, migrate};
use longhaul_ops::embedded::{ClusterOptions, temporary_folder};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{checker::Verdict, mutants::Mutant, volume::Volume};

/// A fleet under a nemesis, and a checker.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "torture",
    after_help = "Examples:\n  torture --seed 7 --minutes 2        the same load and faults again\n  torture --mutants                   does the checker see what it is there to see?\n  torture --mutant no-fencing         one of them"
)]
struct Arguments {
    /// Seed of load and faults; a fresh one, which is printed, by default.
    #[arg(long)]
    seed: Option<u64>,
    /// How long load and faults last.
    #[arg(long, env = "LONGHAUL_TORTURE_SECONDS", default_value_t = 15)]
    seconds: u64,
    /// The same in minutes; this counts when both are given.
    #[arg(long)]
    minutes: Option<u64>,
    /// Worker processes.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How many clients start runs and operate at once; with more of them, bulk starts and limits grow as well.
    #[arg(long, default_value_t = 1)]
    clients: u32,
    /// Without faults, so that a mutant is all there is to see.
    #[arg(long)]
    calm: bool,
    /// Breaks the installation in this way; succeeds when the checker sees it.
    #[arg(long)]
    mutant: Option<String>,
    /// All mutants, one after the other.
    #[arg(long)]
    mutants: bool,
    /// Be a worker process; started by the program itself.
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
    /// Of the worker process.
    #[arg(long, hide = true, default_value = "default")]
    tenant: String,
    /// Given by `cargo test`; without meaning.
    #[arg(hide = true)]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Some(record) = &arguments.worker {
        runtime.block_on(worker::run(record, &arguments.tenant));
        return ExitCode::SUCCESS;
    }
    let outcome = match (&arguments.mutant, arguments.mutants) {
        (Some(name), _) => match Mutant::named(name) {
            Some(mutant) => runtime.block_on(hunt(&arguments, &[mutant])),
            None => Err(format!("there is no mutant {name}; there are {}", names()).into()),
        },
        (None, true) => runtime.block_on(hunt(&arguments, &mutants::MUTANTS.iter().collect::<Vec<_>>())),
        (None, false) => runtime.block_on(once(&arguments)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn names() -> String {
    mutants::MUTANTS.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
}

/// One run; true when everything held.
async fn once(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let seconds = arguments.minutes.map_or(arguments.seconds, |minutes| 60 * minutes);
    println!("seed {seed}, {seconds} s, {} workers", arguments.workers);
    let verdict = torture(arguments, seed, seconds, None).await?;
    println!("{verdict}");
    if !verdict.holds() {
        println!(
            "repeat it with: ./ops/torture --seed {seed} --seconds {seconds} --workers {} --clients {}",
            arguments.workers, arguments.clients
        );
    }
    Ok(verdict.holds())
}

/// Mutants; true when each was seen by the check that is there to see it.
async fn hunt(arguments: &Arguments, mutants: &[&'static Mutant]) -> Result<bool, Box<dyn Error>> {
    let mut all = true;
    for mutant in mutants {
        let begun = Instant::now();
        let mut seen = Vec::new();
        // Chance may spare a mutant once.
        for _ in 0..3 {
            let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
            let verdict = torture(arguments, seed, arguments.seconds, Some(mutant)).await?;
            seen = verdict.violated();
            if seen.contains(&mutant.seen_by) {
                break;
            }
        }
        let caught = seen.contains(&mutant.seen_by);
        all &= caught;
        println!(
            "| {} | {} | {} | {:.0} s |",
            mutant.name,
            if caught { "caught" } else { "NOT CAUGHT" },
            if caught { mutant.seen_by.to_owned() } else { format!("only: {}", seen.join("; ")) },
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(all)
}

async fn torture(
    arguments: &Arguments,
    seed: u64,
    seconds: u64,
    mutant: Option<&Mutant>,
) -> Result<Verdict, Box<dyn Error>> {
    let folder = temporary_folder()?;
    let server = folder.path().join("server");
    // Mutants are hunted without faults.
    let gentle = mutant.is_some() || arguments.calm;
    let volume = if gentle { None } else { Volume::mount(&server)? };
    if !gentle && volume.is_none() {
        println!("the disk will not be full: no small file system can be mounted here");
    }
    let records = folder.path().join("records");
    std::fs::create_dir(&records)?;
    let mut cluster = ClusterOptions::new(&server).set("fsync", "off").set("max_connections", "120").start().await?;
    let mut config = cluster.config()?;
    config.retry_for = Duration::from_secs(120);
    migrate::migrate(&Database::new(&config)?).await?;
    let limits = flows::Limits::of(arguments.clients);
    let client = Client::connect(&config).await?;
    flows::deploy(&client, limits).await?;
    let other = Client::connect(&config.clone().tenant(nemesis::OTHER_TENANT)?).await?;
    flows::deploy_for_other(&other).await?;
    for known in mutants::MUTANTS {
        // So that none of them goes stale while nobody hunts it.
        known.broken(&client).await?;
    }
    if let Some(mutant) = mutant {
        mutant.apply(&client).await?;
    }
    let schedulers =
        [(); 2].map(|()| Scheduler::new(&config).map(|s| tokio::spawn(s.run_until(std::future::pending()))));

    let mut random = StdRng::seed_from_u64(seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let seen = Arc::default();
    let watching = tokio::spawn(watch::watch(client.clone(), Arc::<Mutex<watch::Seen>>::clone(&seen)));
    let mut asking = Vec::new();
    for number in 0..arguments.clients {
        asking.push(tokio::spawn(load::start_runs(client.clone(), limits, random.random(), until)));
        asking.push(tokio::spawn(load::operate(
            client.clone(),
            limits.keys,
            random.random(),
            u64::from(number) * 1_000_000,
            until,
        )));
    }
    asking.push(tokio::spawn(load::start_for_other(other, limits.keys, random.random(), until)));
    let showing = tokio::spawn(progress::show(client.clone(), seconds));
    let network = network::Network::start(&config).await?;
    let mut fleet = nemesis::Fleet::start(arguments.workers, &network.config(&config).connection.to_url(), &records)?;
    // A mutant is all there is to see: crashes and upgrades would hide it, or mend it.
    if gentle {
        nemesis::unsettle(&mut fleet, &mut random, until).await?;
    } else {
        let faults = nemesis::rage(&mut fleet, &network, &mut cluster, volume.as_ref(), &mut random, until).await?;
        println!("faults: {faults}");
    }
    showing.abort();
    fleet.heal()?;
    let mut asked = load::Asked::default();
    for task in asking {
        asked.merge(task.await?);
    }
    let patience = Duration::from_secs(if mutant.is_some() { 10 } else { 120 * u64::from(arguments.clients) });
    let in_time = load::let_end(&client, &mut asked, patience).await?;
    watching.abort();
    if in_time {
        fleet.stop().await?;
    }
    for scheduler in schedulers {
        scheduler?.abort();
    }
    let seen = std::mem::take(&mut *seen.lock().expect("no panics here"));
    let verdict = checker::check(&client, &records, &asked, &seen, in_time).await?;
    if mutant.is_none() {
        let mut operations: Vec<_> = asked.operations.iter().map(|(name, count)| format!("{count} {name}")).collect();
        operations.sort();
        println!("asked for: {}", operations.join(", "));
    }
    cluster.stop().await;
    Ok(verdict)
}
