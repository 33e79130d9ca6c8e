//! Side by side with other queues on PostgreSQL: the same server, the same session, in turn and in both orders.

use std::{
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
    /// Jobs, and steps of each where it has steps.
    arguments: Vec<String>,
    /// Steps of one job.
    steps: f64,
}

pub async fn compare(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare");
    prepare(&folder)?;
    let jobs = bench.scale.runs;
    let systems = [
        System {
            name: "graphile-worker",
            program: &["node", "graphile.mjs"],
            arguments: vec![jobs.to_string()],
            steps: 1.0,
        },
        System {
            name: "Graphile Worker RS",
            program: &["target/release/graphile_rs"],
            arguments: vec![jobs.to_string()],
            steps: 1.0,
        },
        System {
            name: "pg-boss",
            program: &["node", "pgboss.mjs"],
            arguments: vec![(jobs / 2).to_string()],
            steps: 1.0,
        },
        System {
            name: "Procrastinate",
            program: &["target/python/bin/python", "procrastinate_bench.py"],
            arguments: vec![(jobs / 50).to_string()],
            steps: 1.0,
        },
        System {
            name: "apalis",
            program: &["target/release/apalis"],
            arguments: vec![(jobs / 2).to_string()],
            steps: 1.0,
        },
        System {
            name: "Underway",
            program: &["target/release/underway"],
            arguments: vec![(jobs / 100).to_string()],
            steps: 1.0,
        },
        System { name: "Awa", program: &["target/release/awa"], arguments: vec![(jobs / 2).to_string()], steps: 1.0 },
        System {
            name: "DBOS",
            program: &["target/release/dbos"],
            arguments: vec![(jobs / 20).to_string(), "5".into()],
            steps: 5.0,
        },
    ];
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
                    drained[place].push(figures.drained_per_s * system.steps);
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
        rows.push(Row::new("", format!("{}: drained", system.name), median(drained[place].clone()), "steps/s"));
    }
    for (id, name, ours, target) in
        [("P1", "graphile-worker", single, 1.5), ("P5", "Awa", single, 3.0), ("P2", "DBOS", multi, 10.0)]
    {
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
        .args(&system.arguments)
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
