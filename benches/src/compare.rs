//! Side by side with other queues on PostgreSQL: the same server, the same session, in turn and in both orders.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
};

use longhaul::{Flow, Step};
use serde::Deserialize;

use crate::{
    bench::{Bench, Outcome, median, progress},
    report::Row,
};

/// What the programs in `benches/compare` print.
#[derive(Debug, Deserialize)]
struct Figures {
    enqueued_per_s: f64,
    drained_per_s: f64,
}

/// A system, and how its program is started.
struct System {
    name: &'static str,
    program: &'static [&'static str],
    /// Jobs of a round.
    jobs: usize,
    /// Steps of one job.
    steps: u32,
    /// Its settings, each with the values that are tried; the first is where the search begins.
    knobs: &'static [(&'static str, &'static [u32])],
    /// The place of the value that is used, for each of them.
    used: Vec<usize>,
}

impl System {
    fn new(
        name: &'static str,
        program: &'static [&'static str],
        jobs: usize,
        knobs: &'static [(&'static str, &'static [u32])],
    ) -> Self {
        Self { name, program, jobs, steps: 1, knobs, used: vec![0; knobs.len()] }
    }

    /// The settings as the program reads them.
    fn settings(&self) -> serde_json::Value {
        let knobs =
            self.knobs.iter().zip(&self.used).map(|((name, values), place)| ((*name).into(), values[*place].into()));
        knobs.chain([("steps".into(), self.steps.into())]).collect::<serde_json::Map<_, _>>().into()
    }

    /// The settings for people.
    fn shown(&self) -> String {
        let knobs =
            self.knobs.iter().zip(&self.used).map(|((name, values), place)| format!("{name} {}", values[*place]));
        knobs.collect::<Vec<_>>().join(", ")
    }

    /// Looks for its best settings: one knob after the other, all values of each, until a turn over all of them changes nothing.
    async fn tune(&mut self, bench: &Bench, folder: &Path) -> Outcome<()> {
        let tries: usize = self.knobs.iter().map(|(_, values)| values.len()).sum();
        let bar = progress(&format!("best settings of {}", self.name), tries as u64);
        let mut rates: HashMap<Vec<usize>, f64> = HashMap::new();
        for _ in 0..TURNS {
            let before = self.used.clone();
            for knob in 0..self.knobs.len() {
                let mut best = (f64::MIN, self.used[knob]);
                for value in 0..self.knobs[knob].1.len() {
                    self.used[knob] = value;
                    let rate = match rates.get(&self.used) {
                        Some(known) => *known,
                        // What it cannot do, such as more connections than the server has, is no good setting.
                        None => run(bench, folder, self).await.map_or(0.0, |figures| figures.drained_per_s),
                    };
                    rates.insert(self.used.clone(), rate);
                    best = if rate > best.0 { (rate, value) } else { best };
                    bar.inc(1);
                }
                self.used[knob] = best.1;
            }
            if self.used == before {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Most turns over all settings of a system.
const TURNS: usize = 2;

/// The other systems, as their own documentation sets them up for throughput, and what is tried beside that.
fn systems(jobs: usize) -> Vec<System> {
    vec![
        System::new(
            "graphile-worker",
            &["node", "graphile.mjs"],
            jobs,
            &[
                ("pool", &[501, 8, 20, 100]),
                ("concurrency", &[500, 100, 1000]),
                ("queue", &[2000, 500, 5000]),
                ("batch_ms", &[0, 1, 5]),
            ],
        ),
        System::new(
            "Graphile Worker RS",
            &["target/release/graphile_rs"],
            jobs,
            &[
                ("pool", &[20, 8, 100]),
                ("concurrency", &[500, 100, 1000]),
                ("queue", &[2000, 500, 5000]),
                ("queues", &[1, 2, 4]),
                ("batch_ms", &[1, 2, 5]),
            ],
        ),
        System::new(
            "pg-boss",
            &["node", "pgboss.mjs"],
            jobs / 2,
            &[("pool", &[8, 20]), ("fetchers", &[4, 2, 8]), ("batch", &[1000, 500, 2000])],
        ),
        System::new(
            "Procrastinate",
            &["target/python/bin/python", "procrastinate_bench.py"],
            jobs / 50,
            &[("pool", &[8, 20]), ("concurrency", &[100, 20, 500])],
        ),
        System::new(
            "apalis",
            &["target/release/apalis"],
            jobs / 2,
            &[("pool", &[10, 20]), ("concurrency", &[500, 100, 1000]), ("batch", &[500, 100, 1000])],
        ),
        System::new("Underway", &["target/release/underway"], jobs / 100, &[("concurrency", &[32, 8, 64])]),
        System::new(
            "Awa",
            &["target/release/awa"],
            jobs / 2,
            &[
                ("pool", &[20, 40]),
                ("concurrency", &[256, 64, 1024]),
                ("claimers", &[4, 1, 8]),
                ("batch", &[512, 128, 1024]),
            ],
        ),
        System {
            steps: 5,
            ..System::new(
                "DBOS",
                &["target/release/dbos"],
                jobs / 20,
                &[("pool", &[20, 40, 100]), ("concurrency", &[64, 16, 256])],
            )
        },
    ]
}

pub async fn compare(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare");
    prepare(&folder)?;
    let jobs = bench.scale.runs;
    let mut systems = systems(jobs);
    for system in &mut systems {
        system.tune(bench, &folder).await?;
    }
    bench.deploy("one", Step::new("a", "nothing").queue("compare")).await?;
    let five = (1..5).fold(Flow::new("five", 1).step(Step::new("s0", "nothing").queue("compare")), |flow, n| {
        flow.step(Step::new(format!("s{n}"), "nothing").queue("compare").after(format!("s{}", n - 1)))
    });
    bench.client.deploy(&five).await?;

    let mut enqueued = vec![Vec::new(); systems.len()];
    let mut drained = vec![Vec::new(); systems.len()];
    let (mut started, mut single, mut multi) = (Vec::new(), Vec::new(), Vec::new());
    let bar = progress("side by side", (bench.scale.rounds * (systems.len() + 1)) as u64);
    for round in 0..bench.scale.rounds {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..=systems.len()).collect() } else { (0..=systems.len()).rev().collect() };
        for place in order {
            bench.connection().await?.batch_execute("checkpoint").await?;
            match systems.get(place) {
                Some(system) => {
                    let figures = run(bench, &folder, system).await?;
                    enqueued[place].push(figures.enqueued_per_s);
                    drained[place].push(figures.drained_per_s * f64::from(system.steps));
                }
                None => {
                    started.push(bench.start_runs("one", jobs).await?);
                    single.push(bench.serve_steps("compare", 1000, jobs).await?);
                    bench.start_runs("five", jobs / 5).await?;
                    multi.push(bench.serve_steps("compare", 1000, jobs).await?);
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let (single, multi) = (median(single), median(multi));
    let mut rows = vec![
        Row::new("P3", "Longhaul: runs started", median(started), "runs/s"),
        Row::new("P1", "Longhaul: single-step runs drained", single, "runs/s"),
        Row::new("P2", "Longhaul: steps of five-step flows", multi, "steps/s"),
    ];
    for (place, system) in systems.iter().enumerate() {
        rows.push(Row::new("", format!("{}: enqueued", system.name), median(enqueued[place].clone()), "jobs/s"));
        let drain = format!("{}: drained ({})", system.name, system.shown());
        rows.push(Row::new("", drain, median(drained[place].clone()), "steps/s"));
    }
    for (id, name, ours, target) in [
        ("P1", "graphile-worker", single, 1.5),
        ("P1", "Graphile Worker RS", single, 1.5),
        ("P2", "graphile-worker", multi, 1.5),
        ("P2", "DBOS", multi, 15.0),
        ("P5", "Awa", single, 3.0),
    ] {
        let place = systems.iter().position(|system| system.name == name).expect("it is among them");
        let ratio = ours / median(drained[place].clone());
        rows.push(Row::new(id, format!("Longhaul beside {name}"), ratio, "times").at_least(target));
    }
    Ok(rows)
}

/// A program of this folder, or of the PATH.
fn found(folder: &Path, program: &str) -> PathBuf {
    let own = folder.join(program);
    if own.exists() { own } else { program.into() }
}

/// Installs and builds the other systems.
fn prepare(folder: &Path) -> Outcome<()> {
    for (program, arguments) in [
        ("npm", &["install", "--no-audit", "--no-fund", "--silent"][..]),
        ("cargo", &["build", "--release", "--quiet"]),
        ("python3", &["-m", "venv", "target/python"]),
        ("target/python/bin/pip", &["install", "--quiet", "--requirement", "requirements.txt"]),
    ] {
        let bar = progress(&format!("{program} {}", arguments[0]), 1);
        let output = Command::new(found(folder, program)).args(arguments).current_dir(folder).output()?;
        bar.finish_and_clear();
        if !output.status.success() {
            return Err(format!("{program} {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(())
}

/// Lets a system do its work in a database of its own, made anew.
async fn run(bench: &Bench, folder: &Path, system: &System) -> Outcome<Figures> {
    let connection = bench.connection().await?;
    connection.batch_execute("drop database if exists compared with (force)").await?;
    connection.batch_execute("create database compared").await?;
    let postgres = &bench.config.connection.postgres;
    let host = match postgres.get_hosts().first() {
        Some(tokio_postgres::config::Host::Unix(folder)) => folder.display().to_string(),
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        None => "localhost".into(),
    };
    let port = postgres.get_ports().first().copied().unwrap_or(5432);
    let user = postgres.get_user().unwrap_or("postgres");
    // Not all of them take a socket's folder as the host of a URL.
    let url = if host.starts_with('/') {
        format!("postgres:///compared?host={host}&port={port}&user={user}")
    } else {
        format!("postgres://{user}@{host}:{port}/compared")
    };
    let output = Command::new(found(folder, system.program[0]))
        .args(&system.program[1..])
        .args([system.jobs.to_string(), system.settings().to_string()])
        .current_dir(folder)
        .env("DATABASE_URL", url)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rfind(|line| line.starts_with('{'));
    match line {
        Some(line) if output.status.success() => Ok(serde_json::from_str(line)?),
        _ => Err(format!("{}: {}", system.name, String::from_utf8_lossy(&output.stderr)).into()),
    }
}
