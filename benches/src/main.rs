//! `longhaul-bench`: how fast Longhaul is. One subcommand for each target, `all` for the lot.
//!
//! A private server is started with `fsync` and `synchronous_commit` on, unless `DATABASE_URL` names one. Everything is a
//! ratio taken in one session: variants in turn, in both orders, medians of the rounds.

mod backlog;
mod bench;
mod compare;
mod drain;
mod idle;
mod latency;
mod limits;
mod observe;
mod plot;
mod profile;
mod report;
mod retention;
mod snapshot;
mod steady;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    bench::{Bench, Outcome, Scale},
    report::{Report, Row},
};

/// How fast Longhaul is on this machine: each measure with its target.
#[derive(Parser, Debug)]
#[command(
    name = "longhaul-bench",
    version,
    after_help = "Examples:\n  longhaul-bench all --quick                   a check of a few minutes\n  longhaul-bench drain --rounds 5              one measure\n  longhaul-bench all --json out.json --plots docs/plots\n  DATABASE_URL=postgres://… longhaul-bench snapshot"
)]
struct Arguments {
    #[command(subcommand)]
    measure: Measure,
    /// A tenth of the work, one round.
    #[arg(long, global = true)]
    quick: bool,
    /// Runs that are drained in each round.
    #[arg(long, global = true)]
    runs: Option<usize>,
    /// Millions of steps in the tables where a measure is about a full database.
    #[arg(long, global = true)]
    millions: Option<f64>,
    /// Rounds of each variant, in both orders in turn.
    #[arg(long, global = true)]
    rounds: Option<usize>,
    /// Writes all figures to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Writes plots to this folder.
    #[arg(long, global = true)]
    plots: Option<PathBuf>,
}

#[derive(Subcommand, Clone, Debug, PartialEq, Eq)]
enum Measure {
    /// P1, P9: starting and draining single-step runs; WAL, statements and transactions of each.
    Drain,
    /// P2: flows of five steps.
    Flows,
    /// P3: bulk start beside COPY of the same rows into the same tables.
    Start,
    /// P4: from start to handler, on an idle system, beside commit + notify + claim by hand.
    Latency,
    /// P5: draining while a snapshot is held open.
    Snapshot,
    /// P6: claims with millions of ready steps, timers and finished steps in the tables.
    Backlog,
    /// P7: steps blocked behind a key.
    Blocked,
    /// P8: limits that do not bind.
    Limits,
    /// P10: what idle workers cost.
    Idle,
    /// P11: table sizes and latency under a steady load at half of P1. An hour of it needs 100 GB, unless runs are deleted.
    Steady {
        /// How long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Deletes runs that ended so many seconds ago; all are kept by default.
        #[arg(long)]
        keep_seconds: Option<u64>,
    },
    /// P12: retention, by deleting and by dropping partitions.
    Retention,
    /// P13: more worker processes.
    Scaling,
    /// R8: rename, pause and get beside 5,000 dispatches in flight.
    Operators,
    /// R29: 100 observers of one worker.
    Status,
    /// Where the time of a run goes: processors, WAL, functions of the schema.
    Profile,
    /// Slots between a floor and a ceiling under a load that comes in waves, plotted.
    Waves,
    /// P1, P2, P5: side by side with graphile-worker (both), pg-boss, Awa and DBOS, which are installed first (npm and crates.io).
    Compare,
    /// All of them but the comparison; the steady load for one minute.
    All,
    /// A worker process, for measures that need several.
    #[command(hide = true)]
    Worker { queue: String, slots: usize },
}

const ALL: &[Measure] = &[
    Measure::Drain,
    Measure::Flows,
    Measure::Start,
    Measure::Latency,
    Measure::Snapshot,
    Measure::Backlog,
    Measure::Blocked,
    Measure::Limits,
    Measure::Idle,
    Measure::Steady { minutes: 1, keep_seconds: None },
    Measure::Retention,
    Measure::Scaling,
    Measure::Operators,
    Measure::Status,
    Measure::Waves,
];

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    if let Measure::Worker { queue, slots } = &arguments.measure {
        return bench::work(queue, *slots).await;
    }
    let mut scale = if arguments.quick { Scale::quick() } else { Scale::full() };
    scale.runs = arguments.runs.unwrap_or(scale.runs);
    scale.millions = arguments.millions.unwrap_or(scale.millions);
    scale.rounds = arguments.rounds.unwrap_or(scale.rounds).max(1);
    let measures = if arguments.measure == Measure::All { ALL.to_vec() } else { vec![arguments.measure] };

    let mut report = Report::default();
    for measure in measures {
        // Each measure has a server of its own, so that none meets what another left.
        let (bench, server) = Bench::start(scale, arguments.plots.clone()).await?;
        report.settings = bench.settings().await?;
        let rows = run(&measure, &bench).await?;
        report.add(rows);
        drop(bench);
        if let Some(server) = server {
            server.stop().await;
        }
    }
    report.print();
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(folder) = &arguments.plots {
        plot::ratios(&folder.join("targets.svg"), &report.rows)?;
    }
    Ok(())
}

async fn run(measure: &Measure, bench: &Bench) -> Outcome<Vec<Row>> {
    match measure {
        Measure::Drain => drain::drain(bench).await,
        Measure::Flows => drain::flows(bench).await,
        Measure::Start => drain::start(bench).await,
        Measure::Scaling => drain::scaling(bench).await,
        Measure::Latency => latency::latency(bench).await,
        Measure::Snapshot => snapshot::snapshot(bench).await,
        Measure::Backlog => backlog::backlog(bench).await,
        Measure::Blocked => limits::blocked(bench).await,
        Measure::Limits => limits::limits(bench).await,
        Measure::Idle => idle::idle(bench).await,
        Measure::Steady { minutes, keep_seconds } => {
            steady::steady(bench, *minutes, keep_seconds.map(Duration::from_secs)).await
        }
        Measure::Retention => retention::retention(bench).await,
        Measure::Operators => observe::operators(bench).await,
        Measure::Status => observe::status(bench).await,
        Measure::Compare => compare::compare(bench).await,
        Measure::Profile => profile::profile(bench).await,
        Measure::Waves => observe::waves(bench).await,
        Measure::All | Measure::Worker { .. } => unreachable!("handled before"),
    }
}
