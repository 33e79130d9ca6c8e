//! P5: draining while somebody keeps a snapshot open, as an analyst does who has gone to lunch.

use std::time::{Duration, Instant};

use longhaul::Step;

use crate::{
    bench::{Bench, Outcome, progress},
    plot,
    report::Row,
};

pub async fn snapshot(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("drained", Step::new("a", "nothing").queue("snapshot")).await?;
    let steps = (bench.scale.millions * 1e6) as usize;
    let without = series(bench, "no snapshot", steps / 4).await?;
    let analyst = bench.connection().await?;
    analyst.batch_execute("begin isolation level repeatable read; select count(*) from longhaul.task").await?;
    let with = series(bench, "snapshot held open", steps).await?;
    // Latency of a claim on the empty queue, by hand: it walks over everything that was taken.
    let worker = bench.register("snapshot").await?;
    let calls = bench.client.database().calls().await?;
    let mut slowest: f64 = 0.0;
    for _ in 0..20 {
        let begun = Instant::now();
        calls.claim(worker, &["snapshot"], &[10]).await?;
        slowest = slowest.max(begun.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let dead: i64 = bench.value("select pg_relation_size('longhaul.task_ready') / 1048576").await?;
    analyst.batch_execute("commit").await?;
    if let Some(folder) = &bench.plots {
        plot::rates(
            &folder.join("snapshot.svg"),
            "Draining single-step runs",
            &[("no snapshot", &without), ("snapshot held open", &with)],
        )?;
    }
    let mean = |rates: &[(f64, f64)]| rates.iter().map(|r| r.1).sum::<f64>() / rates.len().max(1) as f64;
    let last = &with[with.len() * 3 / 4..];
    Ok(vec![
        Row::new("P5", "drained without", mean(&without), "runs/s"),
        Row::new("P5", format!("with a snapshot held open, last quarter of {steps} steps"), mean(last), "runs/s"),
        Row::new("P5", "the one beside the other", mean(last) / mean(&without), "times").at_least(0.9),
        Row::new("P5", "slowest of 20 claims that find nothing then", slowest, "ms"),
        Row::new("P5", "size of the ready index then", dead as f64, "MiB"),
    ])
}

/// Steps that have been drained so far, and the rate, for each of many portions. Runs are started in between, and that time
/// does not count.
async fn series(bench: &Bench, what: &str, steps: usize) -> Outcome<Vec<(f64, f64)>> {
    let portion = (steps / 20).clamp(1000, 50_000);
    let bar = progress(what, steps as u64);
    let serving = bench.serve("snapshot", 1000)?;
    let mut rates = Vec::new();
    let mut done = 0;
    while done < steps {
        // The worker waits meanwhile: a queue that is paused gives nothing out.
        bench.client.pause_queue("snapshot", None).await?;
        bench.start_runs("drained", portion).await?;
        let begun = Instant::now();
        bench.client.resume_queue("snapshot").await?;
        done += portion;
        serving.until_completed(done).await;
        rates.push((done as f64 / 1e6, portion as f64 / begun.elapsed().as_secs_f64()));
        bar.set_position(done as u64);
    }
    bar.finish_and_clear();
    serving.stop().await?;
    Ok(rates)
}
