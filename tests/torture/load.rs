//! The load: flows of several shapes, started one by one and in bulk, while the faults happen.

use std::time::{Duration, Instant};

use longhaul::{Client, Error, Flow, Retry, Start, Step};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::worker::Behaviour;

/// Attempts of each step: enough that faults do not use them up.
pub const ATTEMPTS: u16 = 50;

pub async fn deploy(client: &Client) -> Result<(), Error> {
    let step = |name: &str| {
        Step::new(name, "work")
            .retry(Retry::fixed(ATTEMPTS, Duration::from_millis(20)))
            .timeout(Duration::from_millis(800))
    };
    client.deploy(&Flow::new("single", 1).step(step("a"))).await?;
    let chain = Flow::new("chain", 1).step(step("a")).step(step("b").after("a")).step(step("c").after("b"));
    client.deploy(&chain).await?;
    let diamond = Flow::new("diamond", 1)
        .step(step("top"))
        .step(step("left").after("top"))
        .step(step("right").after("top").priority(-5))
        .step(step("bottom").after("left").after("right"));
    client.deploy(&diamond).await?;
    Ok(())
}

/// Starts runs until the time is over; returns the ids of those that were accepted.
pub async fn start_runs(client: Client, seed: u64, until: Instant) -> Vec<Uuid> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut accepted = Vec::new();
    while Instant::now() < until {
        let flow = ["single", "chain", "diamond"][random.random_range(0..3)];
        let mut behaviour = || Behaviour {
            // Some take long, so that an owner that wakes meets another one at work.
            ms: if random.random_ratio(1, 6) { random.random_range(300..700) } else { random.random_range(0..30) },
            fails: 7,
            snoozes: 11,
            hangs: 53,
        };
        // A start that fails in the end is neither accepted nor lost: nobody was told that it would run.
        if random_bulk(flow, accepted.len()) {
            let behaviours: Vec<Behaviour> = (0..50).map(|_| behaviour()).collect();
            if let Ok(started) = client.start_many(flow, behaviours).await {
                accepted.extend(started.ids());
            }
        } else {
            let start = Start::new(&behaviour()).expect("JSON");
            let start = match random.random_range(0..4) {
                0 => start.delay(Duration::from_millis(random.random_range(1..1500))),
                1 => start.priority(random.random_range(-10..10)),
                _ => start,
            };
            if let Ok(run) = client.start_with(flow, start).await {
                accepted.push(run.id());
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(1..15))).await;
    }
    accepted
}

fn random_bulk(flow: &str, count: usize) -> bool {
    (flow.len() + count).is_multiple_of(13)
}

const LIVE_RUNS: &str = "select count(*) from longhaul.run where open_steps > 0";

/// Waits until no run is live; false when that takes too long.
pub async fn wait_for_end(client: &Client, limit: Duration) -> Result<bool, Error> {
    let started = Instant::now();
    while started.elapsed() < limit {
        // The last fault may have hit our own connection.
        let live = match client.database().connection().await?.query_one(LIVE_RUNS, &[]).await {
            Ok(row) => row.get(0),
            Err(_) => i64::MAX,
        };
        if live == 0 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}
