//! Fuzzing on stable Rust: bytes from a corpus are mutated, spliced and fed to everything that reads what people write. A panic is a
//! finding: its input is kept as a file, and becomes a test by being moved to the corpus. So is an answer of the database that is no
//! refusal of ours.
//!
//! ```text
//! cargo test --test fuzz                                        # two seconds each
//! cargo test --release --test fuzz -- --target cron --seconds 3600
//! ```
//!
//! Not guided by coverage, unlike libFuzzer, which needs a nightly compiler; the corpus holds an example of each form instead.

mod mutate;
mod server;

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use longhaul::{Payload, Span, cron::CronExpression};
use longhaul_ops::flow_file;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{mutate::mutated, server::Server};

/// Feeds mutated input to whatever reads what people write.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Arguments {
    /// cron, duration, name, url, payload, flow, and by the database definition, expression, call; all of them when none is named.
    #[arg(long)]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Seed; a fresh one, which is printed, by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Given by `cargo test`; without meaning.
    #[arg(hide = true)]
    filter: Vec<String>,
}

/// Reads an input. An error is an answer; a panic is a finding.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("cron", |input| {
        if let Ok(cron) = CronExpression::parse(&String::from_utf8_lossy(input), "Europe/Berlin") {
            std::hint::black_box(cron.next(chrono::Utc::now()));
        }
    }),
    ("duration", |input| {
        if let Ok(span) = String::from_utf8_lossy(input).parse::<Span>() {
            // What is shown can be read again, and means the same.
            assert_eq!(span.to_string().parse::<Span>().ok(), Some(span), "{span} is read as something else");
        }
    }),
    ("name", |input| {
        std::hint::black_box(String::from_utf8_lossy(input).parse::<longhaul::SchemaName>().is_ok());
    }),
    ("url", |input| {
        std::hint::black_box(longhaul::Config::from_url(&String::from_utf8_lossy(input)).is_ok());
    }),
    ("payload", |input| {
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(input)
            && let Ok(payload) = Payload::new(&value)
        {
            let again: serde_json::Value = serde_json::from_str(payload.as_str()).expect("a payload is JSON");
            assert_eq!(again, value);
        }
    }),
    ("flow", |input| {
        for extension in ["yaml", "json"] {
            let file = scratch(extension);
            std::fs::write(&file, input).expect("a temporary file");
            if let Err(error) = flow_file::read(&file) {
                std::hint::black_box(flow_file::located(&file, &error.to_string()));
            }
        }
    }),
];

fn scratch(extension: &str) -> PathBuf {
    std::env::temp_dir().join(format!("longhaul-fuzz-{}.{extension}", std::process::id()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}");
    let chosen = |name: &str| arguments.target.as_deref().is_none_or(|target| target == name);
    let time = Duration::from_secs(arguments.seconds);
    let mut findings = 0;
    for (name, target) in TARGETS.iter().filter(|(name, _)| chosen(name)) {
        findings += fuzz(name, seed, time, |input| {
            catch_unwind(AssertUnwindSafe(|| target(input)))
                .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()))
        });
    }
    for extension in ["yaml", "json"] {
        // There is none when the target was not chosen.
        let _ = std::fs::remove_file(scratch(extension));
    }
    if server::TARGETS.iter().any(|(name, _)| chosen(name)) {
        let server = Server::start();
        for (name, target) in server::TARGETS.iter().filter(|(name, _)| chosen(name)) {
            let mut accepted = 0_u64;
            findings += fuzz(name, seed, time, |input| {
                accepted += u64::from(target(&server, &String::from_utf8_lossy(input))?);
                Ok(())
            });
            println!("{name}: {accepted} of them were accepted");
        }
        server.stop();
    }
    if findings > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Feeds a target until the time is over; gives the number of findings.
fn fuzz(name: &str, seed: u64, time: Duration, mut feed: impl FnMut(&[u8]) -> Result<(), String>) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a file")).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let (until, mut inputs, mut findings) = (Instant::now() + time, 0_u64, 0);
    while findings < 5 {
        // The corpus as it is comes first.
        let input = match corpus.get(inputs as usize) {
            Some(known) => known.clone(),
            None if Instant::now() >= until => break,
            None => mutated(&corpus, &mut random),
        };
        inputs += 1;
        if let Err(reason) = feed(&input) {
            findings += 1;
            let file = std::env::temp_dir().join(format!("longhaul-finding-{name}-{seed}-{inputs}"));
            let kept = std::fs::File::create(&file).and_then(|mut f| f.write_all(&input));
            println!(
                "{name}: {reason}\n  input {:?} in {} ({kept:?})",
                String::from_utf8_lossy(&input),
                file.display()
            );
        }
    }
    println!("{name}: {inputs} inputs, {findings} findings");
    findings
}
