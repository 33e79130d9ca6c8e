//! P7, P8: what limits cost those that they do not bind.

use longhaul::{Concurrency, Step, calls::QueueLimits};

use crate::{
    bench::{Bench, Outcome},
    report::Row,
};

/// P7: steps blocked behind a key, others ready.
pub async fn blocked(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("free", Step::new("a", "nothing").queue("blocked")).await?;
    let one = Step::new("a", "nothing").queue("blocked").concurrency(Concurrency::named("one", 1));
    bench.deploy("held", one).await?;
    let [before] =
        bench.compare("nothing blocked", async |_| bench.drain("free", "blocked", bench.scale.runs).await).await?;
    // One step of the key is held by somebody who does not end it; the others wait behind it.
    let waiting = bench.scale.runs;
    bench.client.start_many("held", vec![1; waiting]).await?;
    let holder = bench.register("blocked").await?;
    let held = bench.client.database().calls().await?.claim(holder, &["blocked"], &[10]).await?;
    assert_eq!(held.len(), 1, "one of the key is let in");
    let [after] =
        bench.compare("beside blocked steps", async |_| bench.drain("free", "blocked", bench.scale.runs).await).await?;
    Ok(vec![
        Row::new("P7", "drained, nothing blocked", before, "runs/s"),
        Row::new("P7", format!("beside {waiting} steps blocked behind a key"), after / before, "times").at_least(0.9),
    ])
}

/// P8, R41: a global limit, and a thousand keys.
pub async fn limits(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("plain", Step::new("a", "nothing").queue("limited")).await?;
    let two = Step::new("a", "nothing").queue("limited").concurrency(Concurrency::per_key("$.input", 2));
    bench.deploy("keyed", two).await?;
    let wide = QueueLimits { max_running: Some(1_000_000), ..QueueLimits::default() };
    let [plain, limited] = bench
        .compare("global limit", async |which| {
            let limits = if which == 1 { wide } else { QueueLimits::default() };
            bench.client.limit_queue("limited", &limits).await?;
            bench.drain("plain", "limited", bench.scale.runs).await
        })
        .await?;
    bench.client.limit_queue("limited", &QueueLimits::default()).await?;
    let keyed_runs = bench.scale.runs / 5;
    let [few, keyed] = bench
        .compare("1,000 keys of two", async |which| bench.drain(["plain", "keyed"][which], "limited", keyed_runs).await)
        .await?;
    Ok(vec![
        Row::new("P8", "a global limit that does not bind", limited / plain, "times").at_least(0.9),
        Row::new("R41", "1,000 keys of two", keyed / few, "times").at_least(0.9),
    ])
}
