//! P11: a steady load at half of what can be drained.

use std::time::{Duration, Instant};

use longhaul::{Payload, Step};

use crate::{
    bench::{Bench, Outcome, progress, quantile},
    plot,
    report::Row,
};

const TICK: Duration = Duration::from_millis(250);

pub async fn steady(bench: &Bench, minutes: u64) -> Outcome<Vec<Row>> {
    bench.deploy("steady", Step::new("a", "nothing").queue("steady")).await?;
    bench.deploy("probe", Step::new("a", "nothing").queue("probe")).await?;
    let rate = bench.drain("steady", "steady", bench.scale.runs).await? / 2.0;
    let serving = bench.serve("steady", 1000)?;
    let probe = bench.register("probe").await?;
    let calls = bench.client.database().calls().await?;
    let portion = (rate / 2.0 * TICK.as_secs_f64()) as usize;

    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let begun = Instant::now();
    let bar = progress("steady load", 60 * minutes);
    let (mut sizes, mut latencies, mut window) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = Instant::now();
    let mut sample_at = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        next += TICK;
        bench.start_runs("steady", portion).await?;
        bench.client.start("probe", &0).await?;
        let at = Instant::now();
        let claimed = calls.claim(probe, &["probe"], &[1]).await?;
        window.push(at.elapsed().as_secs_f64() * 1000.0);
        calls.complete(probe, &[(claimed[0].key, Payload::null())]).await?;
        if Instant::now() >= sample_at {
            sample_at += Duration::from_secs(5);
            let rooms: f64 = bench
                .value("select (pg_total_relation_size('longhaul.task') + pg_total_relation_size('longhaul.lease'))::float8 / 1048576")
                .await?;
            let seconds = begun.elapsed().as_secs_f64();
            sizes.push((seconds, rooms));
            latencies.push((seconds, quantile(std::mem::take(&mut window), 0.99)));
            bar.set_position(seconds as u64);
        }
        tokio::time::sleep_until(next.into()).await;
    }
    bar.finish_and_clear();
    serving.stop().await?;
    if let Some(folder) = &bench.plots {
        plot::rates(
            &folder.join("steady.svg"),
            "MiB of task and lease with their indexes; claim p99 in ms",
            &[("MiB", &sizes), ("p99 ms", &latencies)],
        )?;
    }
    // The second half beside the first, from the time on when autovacuum has come round.
    let half = |values: &[(f64, f64)], second: bool| {
        let values = &values[values.len() / 6..];
        let (a, b) = values.split_at(values.len() / 2);
        quantile(if second { b } else { a }.iter().map(|v| v.1).collect(), 0.5)
    };
    Ok(vec![
        Row::new("P11", format!("steady load for {minutes} minutes"), portion as f64 / TICK.as_secs_f64(), "runs/s"),
        Row::new(
            "P11",
            "size of task and lease, second half beside the first",
            half(&sizes, true) / half(&sizes, false),
            "times",
        )
        .at_most(1.1),
        Row::new(
            "P11",
            "p99 of claims, second half beside the first",
            half(&latencies, true) / half(&latencies, false),
            "times",
        )
        .at_most(1.25),
    ])
}
