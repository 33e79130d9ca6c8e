//! Scenarios: random flows that use every feature beside every other, with odd data, callers that keep transactions open or use other
//! isolation levels, clocks that step both ways, and workers that send nonsense. After each act all invariants are asked; in the end
//! each run must be what the oracle says.
//!
//! ```text
//! cargo test --test scenarios                                        # the corpus, and some seconds of new ones
//! ./ops/scenarios --seconds 3600 --hunt                              # goes on after a finding; each is cut down and kept
//! ./ops/scenarios --file tests/scenarios/corpus/x.json               # one of them, with all its statements
//! ./ops/scenarios --mutants                                          # does it see what it is there to see?
//! ```
//!
//! One act after the other, on one process and a server of its own: the same seed does the same.

mod caller;
mod drain;
mod driver;
mod expressions;
mod flows;
mod generate;
mod invariants;
mod mutants;
mod oracle;
mod scenario;
mod scheduling;
mod server;
mod shrink;
mod statements;
mod worker;
mod working;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use rand::Rng;

use crate::{
    driver::{Connections, Finding},
    scenario::Scenario,
    server::Server,
};

/// How long a finding is cut down at most.
const CUTTING: Duration = Duration::from_secs(30);

/// Scenarios that combine every feature, and an oracle.
#[derive(Debug, Parser)]
#[command(name = "scenarios")]
struct Arguments {
    /// The first seed; a fresh one, which is printed, by default.
    #[arg(long)]
    seed: Option<u64>,
    /// How long new scenarios are made.
    #[arg(long, env = "LONGHAUL_SCENARIO_SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Only so many of them.
    #[arg(long)]
    count: Option<u64>,
    /// Goes on after a finding.
    #[arg(long)]
    hunt: bool,
    /// Where cut-down scenarios of findings are kept.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Does one scenario from a file, and prints its statements.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Rules, or parts of them, that are not looked at: to see what lies behind them.
    #[arg(long)]
    except: Vec<String>,
    /// Statements that are carried out after the installation: functions that somebody works on.
    #[arg(long)]
    patch: Option<PathBuf>,
    /// Breaks the installation in each of these ways, and asks whether that is seen.
    #[arg(long)]
    mutants: bool,
    /// Of the mutants, this one only.
    #[arg(long)]
    mutant: Option<String>,
    /// Leaves the corpus out.
    #[arg(long)]
    new_only: bool,
    /// Given by `cargo test`; without meaning.
    #[arg(hide = true)]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let findings = runtime.block_on(async {
        let server = Server::start(arguments.patch.as_deref()).await;
        let mut connections = Connections::new(&server).await;
        let mut rig = Rig {
            server: &server,
            connections: &mut connections,
            arguments: &arguments,
            known: BTreeMap::new(),
            done: 0,
        };
        let findings = rig.all().await;
        server.stop().await;
        findings
    });
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Rig<'a> {
    server: &'a Server,
    connections: &'a mut Connections,
    arguments: &'a Arguments,
    /// Findings by rule: how often.
    known: BTreeMap<String, usize>,
    done: u64,
}

impl Rig<'_> {
    async fn all(&mut self) -> usize {
        if let Some(file) = &self.arguments.file {
            return self.replay(file, true).await;
        }
        if self.arguments.mutants || self.arguments.mutant.is_some() {
            return self.hunt_mutants().await;
        }
        let mut findings = 0;
        if !self.arguments.new_only {
            // Each mutant still fits the functions that it breaks.
            for mutant in mutants::MUTANTS {
                mutant.broken(self.server).await;
            }
            let files = corpus();
            for file in &files {
                findings += self.replay(file, false).await;
            }
            println!("corpus: {} scenarios, {findings} findings", files.len());
        }
        findings + self.make().await
    }

    /// Mutants; gives how many were not seen.
    async fn hunt_mutants(&mut self) -> usize {
        let chosen = |name: &str| self.arguments.mutant.as_deref().is_none_or(|one| one == name);
        let mut missed = 0;
        for mutant in mutants::MUTANTS.iter().filter(|mutant| chosen(mutant.name)) {
            let begun = Instant::now();
            let broken = mutant.broken(self.server).await;
            let whole = originals(self.server, &broken).await;
            apply(self.server, &broken).await;
            let scenario =
                corpus().into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == mutant.scenario));
            let (checked, _) = self.one(&Scenario::read(&scenario.expect("a scenario of that name"))).await;
            apply(self.server, &whole).await;
            missed += usize::from(checked.is_ok());
            let how = checked.err().map_or("missed".to_owned(), |finding| finding.rule);
            println!("| {} | {} | {how} | {:.1} s |", mutant.name, mutant.scenario, begun.elapsed().as_secs_f64());
        }
        missed
    }

    async fn one(&mut self, scenario: &Scenario) -> (driver::Checked, Vec<String>) {
        driver::run(self.server, self.connections, scenario, &self.arguments.except).await
    }

    async fn replay(&mut self, file: &Path, with_log: bool) -> usize {
        let (checked, log) =
            driver::run(self.server, self.connections, &Scenario::read(file), &self.arguments.except).await;
        if with_log {
            log.iter().for_each(|line| println!("{line}"));
        }
        match checked {
            Ok(()) => 0,
            Err(finding) => {
                println!("{}: {}\n  {}", file.display(), finding.rule, finding.detail);
                1
            }
        }
    }

    /// New scenarios until the time is over.
    async fn make(&mut self) -> usize {
        let seed = self.arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
        println!("seed {seed}");
        let mut until = Instant::now() + Duration::from_secs(self.arguments.seconds);
        let begun = Instant::now();
        while self.arguments.count.map_or(Instant::now() < until, |count| self.done < count) {
            let number = seed + self.done;
            let scenario = generate::scenario(number);
            self.done += 1;
            let (checked, log) = driver::run(self.server, self.connections, &scenario, &self.arguments.except).await;
            if let Err(finding) = checked {
                let found = Instant::now();
                self.found(number, scenario, finding, &log).await;
                // Cutting down is not counted.
                until += found.elapsed();
                if !self.arguments.hunt {
                    break;
                }
            }
        }
        let findings: usize = self.known.values().sum();
        println!("{} new scenarios in {:.0} s, {findings} findings", self.done, begun.elapsed().as_secs_f64());
        for (rule, times) in &self.known {
            println!("  {times:>5} {rule}");
        }
        findings
    }

    async fn found(&mut self, seed: u64, scenario: Scenario, finding: Finding, log: &[String]) {
        let times = self.known.entry(finding.rule.clone()).or_default();
        *times += 1;
        if *times > 1 {
            return;
        }
        println!("seed {seed}: {}\n  {}", finding.rule, finding.detail);
        let (server, connections, arguments) = (self.server, &mut *self.connections, self.arguments);
        let mut best = shrink::shrunk(scenario, CUTTING, async |less| {
            driver::run(server, connections, less, &arguments.except)
                .await
                .0
                .is_err_and(|other| other.rule == finding.rule)
        })
        .await;
        best.note = format!("{} (seed {seed})", finding.rule);
        let (again, small) = driver::run(self.server, self.connections, &best, &self.arguments.except).await;
        let log = if again.is_err() { &small } else { log };
        let folder = self.arguments.save.clone().unwrap_or_else(std::env::temp_dir);
        let name: String =
            finding.rule.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
        let file = folder.join(format!("scenario-{name}.json"));
        let kept = std::fs::write(&file, best.text());
        let _ = std::fs::write(file.with_extension("sql"), log.join("\n") + "\n");
        println!("{}  in {} ({kept:?})", best.text(), file.display());
    }
}

/// The files of the corpus.
fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/corpus");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

/// What stands now where these definitions will.
async fn originals(server: &Server, definitions: &[String]) -> Vec<String> {
    let mut whole = Vec::new();
    for definition in definitions {
        // Up to the closing parenthesis of the arguments' list, a definition names its function.
        let name = definition.split('(').next().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
        let sql = format!(
            "select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'longhaul'::regnamespace and p.proname = '{name}'"
        );
        whole.extend(server.admin(&sql).await.into_iter().filter_map(|row| row[0].clone()));
    }
    whole
}

async fn apply(server: &Server, definitions: &[String]) {
    for definition in definitions {
        server.admin(definition).await;
    }
}
