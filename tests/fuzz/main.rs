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

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use longhaul::{Database, Payload, Span, cron::CronExpression, migrate};
use longhaul_ops::{embedded, flow_file};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Feeds mutated input to whatever reads what people write.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Arguments {
    /// cron, duration, name, url, payload, flow, definition; all of them when none is named.
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

/// Flow definitions are read by the database itself.
const DEFINITION: &str = "definition";

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
    if chosen(DEFINITION) {
        findings += definitions(seed, time);
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

/// What parsers stumble over.
const TOKENS: &[&str] = &[
    "\0",
    "\u{feff}",
    "\u{202e}",
    "é",
    "💥",
    "'",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "*",
    "/",
    "-",
    ",",
    "#",
    "L",
    "W",
    "?",
    "%",
    "$",
    "$.",
    "@",
    "..",
    "&a",
    "*a",
    "<<: *a",
    "!!python/object",
    "- ",
    ": ",
    "\n",
    "\r\n",
    "\t",
    "0",
    "-1",
    "1e309",
    "NaN",
    "2147483648",
    "9223372036854775808",
    "null",
    "true",
    "after",
    "steps",
    "retry",
    "for_each",
    "when",
    "==",
    "&&",
    "like_regex",
];

fn mutated(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => {
                input.remove(at);
            }
            2 => {
                let token = TOKENS.choose(random).expect("there are tokens");
                input.splice(at..at, token.bytes());
            }
            3 => {
                // A part of another one.
                let other = corpus.choose(random).cloned().unwrap_or_default();
                let from = random.random_range(0..=other.len());
                let to = random.random_range(from..=other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            4 => input.truncate(at),
            5 => {
                // The same again and again: depth, and length.
                let part = input[at.saturating_sub(random.random_range(1..8))..at].to_vec();
                let times = if random.random_ratio(1, 20) { 5000 } else { random.random_range(1..20) };
                input.splice(at..at, part.repeat(times));
            }
            _ => input.insert(at, random.random()),
        }
        input.truncate(200_000);
    }
    input
}

/// Deploys mutated definitions: the database accepts or refuses them, and nothing else.
fn definitions(seed: u64, time: Duration) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = embedded::temporary_folder().expect("a folder");
    let (mut cluster, client) = runtime.block_on(async {
        let cluster = embedded::ClusterOptions::new(folder.path()).start().await.expect("a server");
        let config = cluster.config().expect("its configuration");
        migrate::migrate(&Database::new(&config).expect("a pool")).await.expect("the tables");
        let (client, connection) =
            config.connection.postgres.connect(tokio_postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        (cluster, client)
    });
    let mut deployed = 0;
    let findings = fuzz(DEFINITION, seed, time, |input| {
        let text = String::from_utf8_lossy(input);
        let sql = "select flow_version from longhaul.deploy('default', $1::text::jsonb)";
        match runtime.block_on(client.query_one(sql, &[&&*text])) {
            Ok(_) => {
                deployed += 1;
                Ok(())
            }
            // Not JSON, or not ours: the server's own words for that. Anything else is a defect of our functions.
            Err(error) => match error.code().map(|code| code.code().to_owned()) {
                Some(code)
                    if code.starts_with("LH") || ["22P02", "22P05", "22021", "54001", "22003"].contains(&&*code) =>
                {
                    Ok(())
                }
                _ => Err(format!("{error:?}")),
            },
        }
    });
    println!("{DEFINITION}: {deployed} were deployed");
    runtime.block_on(cluster.stop());
    findings
}
