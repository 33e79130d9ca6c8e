//! The load: flows that use everything, started one by one and in bulk, signalled, paused, resumed and stopped, while the faults
//! happen. What was asked for and what was answered is kept for the checker.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use longhaul::{
    Client, Concurrency, Error, Flow, Missed, Overlap, Payload, Retry, Schedule, Start, Step, WaitSignal,
    calls::{NewSignal, QueueLimits, RetentionPolicy},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use uuid::Uuid;

use crate::worker::Behaviour;

/// Attempts of each step: enough that faults do not use them up.
pub const ATTEMPTS: u16 = 50;

/// Steps of the queue `narrow` that may run at once.
pub const NARROW: i32 = 3;

/// Keys that steps and signals share.
const KEYS: u32 = 5;

const FLOWS: [&str; 8] = ["single", "chain", "diamond", "signalled", "family", "spread", "keyed", "narrow"];

/// What clients asked for, and what they were told.
#[derive(Debug, Default)]
pub struct Asked {
    /// Runs that were accepted.
    pub accepted: Vec<Uuid>,
    /// Runs that somebody wanted stopped, whether that was answered or not.
    pub stopped: HashSet<Uuid>,
    /// Signals whose acceptance was answered.
    pub signals: HashSet<u64>,
    /// How many operations there were of each kind.
    pub operations: HashMap<&'static str, usize>,
}

impl Asked {
    pub fn merge(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.stopped.extend(other.stopped);
        self.signals.extend(other.signals);
        for (operation, count) in other.operations {
            *self.operations.entry(operation).or_default() += count;
        }
    }

    fn count(&mut self, operation: &'static str) {
        *self.operations.entry(operation).or_default() += 1;
    }
}

/// A step that survives what is done to it.
fn step(name: &str) -> Step {
    Step::new(name, "work").retry(Retry::fixed(ATTEMPTS, Duration::from_millis(20))).timeout(Duration::from_millis(800))
}

/// The other tenant's flow.
pub async fn deploy_for_other(client: &Client) -> Result<(), Error> {
    client.deploy(&Flow::new("single", 1).step(step("a"))).await?;
    Ok(())
}

pub async fn deploy(client: &Client) -> Result<(), Error> {
    client.deploy(&Flow::new("single", 1).step(step("a"))).await?;
    let chain = Flow::new("chain", 1).step(step("a")).step(step("b").after("a")).step(step("c").after("b"));
    client.deploy(&chain).await?;
    let diamond = Flow::new("diamond", 1)
        .step(step("top"))
        .step(step("left").after("top"))
        .step(step("right").after("top").priority(-5))
        .step(step("bottom").after("left").after("right"));
    client.deploy(&diamond).await?;
    let go = Step::wait_signal("go", WaitSignal::new("go").key("$.input.key")).after("a");
    client.deploy(&Flow::new("signalled", 1).step(step("a")).step(go).step(step("b").after("go"))).await?;
    let family = Flow::new("family", 1).step(Step::child("child", "chain")).step(step("after").after("child"));
    client.deploy(&family).await?;
    let spread = Flow::new("spread", 1)
        .step(step("items").for_each("$.input.items").window(3))
        .step(step("join").after("items"));
    client.deploy(&spread).await?;
    client.deploy(&Flow::new("keyed", 1).step(step("a").concurrency(Concurrency::per_key("$.input.key", 2)))).await?;
    client.deploy(&Flow::new("narrow", 1).step(step("a").queue("narrow"))).await?;
    client.limit_queue("narrow", &QueueLimits { max_running: Some(NARROW), ..QueueLimits::default() }).await?;

    client.deploy(&Flow::new("tick", 1).step(step("a"))).await?;
    let schedule = Schedule::new("ticks", "* * * * * *", "tick")
        .input(&Behaviour::default())?
        .missed(Missed::All)
        .overlap(Overlap::Allow);
    client.schedule(&schedule).await?;
    // Kept short, so that retention deletes runs all the time; what it deletes the checker does not ask for.
    client.deploy(&Flow::new("brief", 1).step(step("a"))).await?;
    let brief = RetentionPolicy {
        name: "brief".into(),
        state: None,
        flow: Some("brief".into()),
        age: Duration::from_secs(1),
        keep_last: 0,
    };
    client.database().calls().await?.put_retention_policy("default", &brief).await?;
    Ok(())
}

/// Starts runs until the time is over.
pub async fn start_runs(client: Client, seed: u64, until: Instant) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let mut asked = Asked::default();
    while Instant::now() < until {
        let flow = FLOWS[random.random_range(0..FLOWS.len())];
        // A start that fails in the end is neither accepted nor lost: nobody was told that it would run.
        match random.random_range(0..13) {
            0 => {
                let behaviours: Vec<_> = (0..50).map(|_| behaviour(&mut random)).collect();
                asked.count("bulk starts");
                if let Ok(started) = client.start_many(flow, behaviours).await {
                    asked.accepted.extend(started.ids());
                }
            }
            1 => {
                asked.count("starts of brief runs");
                // Whether it was accepted or not: retention takes it away.
                let _ = client.start("brief", &Behaviour::default()).await;
            }
            choice => {
                let start = Start::new(&behaviour(&mut random)).expect("JSON");
                let start = match choice {
                    2..5 => start.delay(Duration::from_millis(random.random_range(1..1500))),
                    5..8 => start.priority(random.random_range(-10..10)),
                    _ => start,
                };
                asked.count("starts");
                if let Ok(run) = client.start_with(flow, start).await {
                    asked.accepted.push(run.id());
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(1..15))).await;
    }
    asked
}

/// The other tenant's runs: a trickle.
pub async fn start_for_other(client: Client, seed: u64, until: Instant) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let mut asked = Asked::default();
    while Instant::now() < until {
        if let Ok(run) = client.start("single", &behaviour(&mut random)).await {
            asked.accepted.push(run.id());
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..100))).await;
    }
    asked
}

fn behaviour(random: &mut StdRng) -> Behaviour {
    let one = |random: &mut StdRng| Behaviour {
        // Some take long, so that an owner that wakes meets another one at work.
        ms: if random.random_ratio(1, 6) { random.random_range(300..700) } else { random.random_range(0..30) },
        fails: 7,
        snoozes: 11,
        hangs: 53,
        key: random.random_range(0..KEYS),
        items: Vec::new(),
    };
    let items = (0..random.random_range(0..6)).map(|_| one(random)).collect();
    Behaviour { items, ..one(random) }
}

/// Operators and other systems: pauses, resumptions, stops, names, and signals, some of them twice.
///
/// Signals are numbered from `first` on: no two clients send the same one.
pub async fn operate(client: Client, seed: u64, first: u64, until: Instant) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let mut asked = Asked::default();
    let mut number = first;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..40))).await;
        if random.random_ratio(1, 2) {
            number += 1;
            if send(&client, random.random_range(0..KEYS), number, random.random_ratio(1, 5)).await {
                asked.signals.insert(number);
            }
            asked.count("signals");
            continue;
        }
        let Ok(run) = any_live_run(&client).await else { continue };
        let handle = client.run(run);
        // A refusal is an answer: the run may have ended meanwhile.
        match random.random_range(0..10) {
            0..4 => {
                asked.count("pauses");
                let _ = handle.pause().await;
                tokio::time::sleep(Duration::from_millis(random.random_range(1..200))).await;
                let _ = handle.resume().await;
            }
            4..6 => {
                asked.count("stops");
                asked.stopped.insert(run);
                let _ = handle.stop().await;
            }
            6..8 => {
                asked.count("names");
                let _ = handle.rename(Some("renamed")).await;
            }
            _ => {
                asked.count("pauses that stay");
                let _ = handle.pause().await;
            }
        }
    }
    asked
}

/// Sends a signal, and perhaps the same one again. True when it was accepted.
async fn send(client: &Client, key: u32, number: u64, twice: bool) -> bool {
    let signal = || NewSignal {
        idempotency_key: Some(format!("signal {number}")),
        ..NewSignal::new("go", Payload::new(&json!(number)).expect("JSON"))
    };
    let accepted = client.send_signal(&key.to_string(), signal()).await.is_ok();
    if twice {
        return client.send_signal(&key.to_string(), signal()).await.is_ok() || accepted;
    }
    accepted
}

/// A run of the default tenant that is live, of those that began last; no child, whose end would be its parent's.
async fn any_live_run(client: &Client) -> Result<Uuid, Error> {
    let connection = client.database().connection().await?;
    let sql = "select id from (select id from longhaul.run where tenant = 'default' and parent_id is null and open_steps > 0 order by id desc limit 200) r order by random() limit 1";
    Ok(connection.query_opt(sql, &[]).await?.map_or_else(Uuid::nil, |row| row.get(0)))
}

/// Lets everything come to its end: what is paused goes on, and what waits gets its signal. False when that takes too long.
pub async fn let_end(client: &Client, asked: &mut Asked, limit: Duration) -> Result<bool, Error> {
    let started = Instant::now();
    let mut number = 1_000_000_000;
    while started.elapsed() < limit {
        // The last fault may have hit our own connection.
        if let Ok(live) = end_once(client, asked, &mut number).await
            && live == 0
        {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

async fn end_once(client: &Client, asked: &mut Asked, number: &mut u64) -> Result<i64, Error> {
    let _ = client.pause_schedule("ticks").await;
    let connection = client.database().connection().await?;
    for row in connection.query("select id from longhaul.run where state = 'paused'", &[]).await? {
        let _ = client.run(row.get(0)).resume().await;
    }
    for row in connection.query("select key from longhaul.wait where topic = 'go'", &[]).await? {
        let key: String = row.get(0);
        *number += 1;
        if send(client, key.parse().unwrap_or_default(), *number, false).await {
            asked.signals.insert(*number);
        }
    }
    Ok(connection.query_one("select count(*) from longhaul.run where open_steps > 0", &[]).await?.get(0))
}
