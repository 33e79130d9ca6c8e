//! The load: runs that are started one by one and in bulk, signalled, answered, paused, resumed and stopped, while the faults
//! happen. What was asked for and what was answered is kept for the checker.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use longhaul::{
    Client, Error, Payload, Start,
    calls::{Answer, NewSignal},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use uuid::Uuid;

use crate::{
    flows::{LIMITED, Limits, STARTED},
    handlers::Behaviour,
};

/// With more ready steps than this nobody starts further runs: the load is what the machine can do.
const BACKLOG: i64 = 2_000;

/// Runs that are live: each has a step in some room.
pub const LIVE_RUNS: &str = "
    select run_id from longhaul.task union select run_id from longhaul.lease union select run_id from longhaul.timer
    union select run_id from longhaul.wait union select run_id from longhaul.queued union select run_id from longhaul.held";

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

/// Starts runs until the time is over.
pub async fn start_runs(client: Client, limits: Limits, seed: u64, until: Instant) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let mut asked = Asked::default();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..15))).await;
        if ready_steps(&client).await.is_ok_and(|ready| ready > BACKLOG) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let flow = STARTED[random.random_range(0..STARTED.len())];
        // A start that fails in the end is neither accepted nor lost: nobody was told that it would run.
        match random.random_range(0..13) {
            0 => {
                let bulk = if LIMITED.contains(&flow) { 50 } else { limits.bulk };
                let behaviours: Vec<_> = (0..bulk).map(|_| behaviour(&mut random, limits.keys)).collect();
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
                let start = Start::new(&behaviour(&mut random, limits.keys)).expect("JSON");
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
    }
    asked
}

async fn ready_steps(client: &Client) -> Result<i64, Error> {
    let connection = client.database().connection().await?;
    Ok(connection.query_one("select count(*) from longhaul.task", &[]).await?.get(0))
}

/// The other tenant's runs: a trickle.
pub async fn start_for_other(client: Client, keys: u32, seed: u64, until: Instant) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let mut asked = Asked::default();
    while Instant::now() < until {
        if let Ok(run) = client.start("single", &behaviour(&mut random, keys)).await {
            asked.accepted.push(run.id());
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..100))).await;
    }
    asked
}

fn behaviour(random: &mut StdRng, keys: u32) -> Behaviour {
    let one = |random: &mut StdRng| Behaviour {
        // Some take long, so that an owner that wakes meets another one at work.
        ms: if random.random_ratio(1, 6) { random.random_range(300..700) } else { random.random_range(0..30) },
        fails: 7,
        snoozes: 11,
        hangs: 53,
        key: random.random_range(0..keys),
        items: Vec::new(),
    };
    let items = (0..random.random_range(0..6)).map(|_| one(random)).collect();
    Behaviour { items, ..one(random) }
}

/// Operators and other systems: pauses, resumptions, stops, names, answers, and signals, some of them twice.
///
/// Signals are numbered from `first` on: no two clients send the same one.
pub async fn operate(client: Client, keys: u32, seed: u64, first: u64, until: Instant) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let mut asked = Asked::default();
    let mut number = first;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..40))).await;
        if random.random_ratio(1, 2) {
            number += 1;
            if send(&client, random.random_range(0..keys), number, random.random_ratio(1, 5)).await {
                asked.signals.insert(number);
            }
            asked.count("signals");
            continue;
        }
        if random.random_ratio(1, 4) {
            asked.count("answers");
            // Refused when it has been answered meanwhile.
            let _ = answer(&client, &mut random).await;
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

/// Answers the question that has been open longest: mostly as its asker hopes.
async fn answer(client: &Client, random: &mut StdRng) -> Result<(), Error> {
    let Some(question) = client.questions(None).await?.into_iter().find(|question| !question.interrupt) else {
        return Ok(());
    };
    let hoped = usize::from(random.random_ratio(1, 5)).min(question.choices.len() - 1);
    let answer = Answer { step: question.step, choice: question.choices[hoped].clone(), data: None };
    client.run(question.run_id).decide(answer, Some("operator")).await.map(|_| ())
}

/// A run of the default tenant that is live; no child, whose end would be its parent's. The rooms are asked, whatever the
/// history holds.
async fn any_live_run(client: &Client) -> Result<Uuid, Error> {
    let connection = client.database().connection().await?;
    let sql = format!(
        "select r.id from ({LIVE_RUNS} limit 200) x join longhaul.run r on r.id = x.run_id
         where r.tenant = 'default' and r.parent_id is null order by random() limit 1"
    );
    Ok(connection.query_opt(&sql, &[]).await?.map_or_else(Uuid::nil, |row| row.get(0)))
}

/// Lets everything come to its end: what is paused goes on, and what waits gets its signal. False when that takes too long.
pub async fn let_end(client: &Client, asked: &mut Asked, limit: Duration) -> Result<bool, Error> {
    let started = Instant::now();
    let mut number = 1_000_000_000;
    // The last fault may have hit our own connection.
    while client.pause_schedule("ticks").await.is_err() && started.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while started.elapsed() < limit {
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
