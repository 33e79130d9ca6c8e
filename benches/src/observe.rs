//! R8, R29, and slots by demand: operators and observers beside the work.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use longhaul::{Slots, Step, StepContext, StepError, Worker};
use serde_json::Value;

use crate::{
    bench::{Bench, Outcome, Serving, milliseconds, progress, quantile},
    plot,
    report::Row,
};

/// R8: rename, pause and get beside 5,000 dispatches in flight.
pub async fn operators(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("busy", Step::new("a", "sleeps").queue("operators")).await?;
    let sleeps = |_: StepContext, _: Value| async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        Ok::<_, StepError>(())
    };
    let worker = Worker::builder(&bench.config)
        .handler("sleeps", sleeps)
        .queue("operators", 5000)
        .grace(Duration::from_secs(2))
        .build()?;
    let ids = bench.client.start_many("busy", 0..40_000).await?.ids();
    let serving = Serving::of(worker)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut rename, mut pause, mut get) = (Vec::new(), Vec::new(), Vec::new());
    let bar = progress("operators", 1000);
    for id in ids.iter().rev().take(1000) {
        let run = bench.client.run(*id);
        rename.push(milliseconds(run.rename(Some("renamed"))).await.1);
        pause.push(milliseconds(run.pause()).await.1);
        get.push(milliseconds(run.get()).await.1);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let running: i64 = bench.value("select count(*) from longhaul.lease").await?;
    serving.stop().await?;
    let p99 = |what: &str, times| {
        Row::new("R8", format!("{what} beside {running} running steps, p99"), quantile(times, 0.99), "ms").at_most(10.0)
    };
    Ok(vec![p99("rename", rename), p99("pause", pause), p99("get", get)])
}

/// R29: 100 observers that ask 100 times a second each.
pub async fn status(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("watched", Step::new("a", "nothing").queue("status")).await?;
    let times = Arc::new(Mutex::new(Vec::new()));
    let runs = bench.scale.runs;
    let [alone, watched] = bench
        .compare("observers", async |which| {
            bench.start_runs("watched", runs).await?;
            let begun = Instant::now();
            let serving = bench.serve("status", 1000)?;
            let observers: Vec<_> = (0..100 * which)
                .map(|_| {
                    let (observer, times) = (serving.observer.clone(), times.clone());
                    tokio::spawn(async move {
                        let mut own = Vec::new();
                        loop {
                            let begun = Instant::now();
                            std::hint::black_box(observer.status());
                            own.push(begun.elapsed().as_secs_f64() * 1000.0);
                            if own.len() == 20 {
                                times.lock().expect("no panics here").append(&mut own);
                            }
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    })
                })
                .collect();
            serving.until_completed(runs).await;
            let rate = runs as f64 / begun.elapsed().as_secs_f64();
            for observer in observers {
                observer.abort();
            }
            serving.stop().await?;
            Ok(rate)
        })
        .await?;
    let times = std::mem::take(&mut *times.lock().expect("no panics here"));
    Ok(vec![
        Row::new("R29", "status beside full load, p99", quantile(times, 0.99), "ms").at_most(0.1),
        Row::new("R29", "throughput beside 100 observers", watched / alone, "times").at_least(0.98),
    ])
}

/// Slots between a floor and a ceiling.
pub async fn waves(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("wave", Step::new("a", "short").queue("waves")).await?;
    let short = |_: StepContext, _: Value| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, StepError>(())
    };
    let worker = Worker::builder(&bench.config)
        .handler("short", short)
        .queue("waves", Slots::between(4, 256))
        .poll(Duration::from_millis(100))
        .build()?;
    let serving = Serving::of(worker)?;
    let mut points = Vec::new();
    let begun = Instant::now();
    let bar = progress("waves", 3);
    for wave in 0..3 {
        bench.client.start_many("wave", vec![wave; 3000]).await?;
        let next = Instant::now() + Duration::from_secs(6);
        while Instant::now() < next {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some((_, figure)) = serving.observer.status().queues.first() {
                let waiting = 3000.0 * f64::from(wave + 1) - figure.completed as f64;
                points.push((
                    begun.elapsed().as_secs_f64(),
                    f64::from(figure.slots),
                    f64::from(figure.running),
                    waiting,
                ));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    serving.stop().await?;
    if let Some(folder) = &bench.plots {
        plot::waves(&folder.join("waves.svg"), &points)?;
    }
    let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
    let least = points.iter().rev().take(10).map(|p| p.1).fold(f64::MAX, f64::min);
    Ok(vec![
        Row::new("R20", "slots at the height of a wave", most, "").at_least(256.0),
        Row::new("R20", "slots after it", least, "").at_most(4.0),
    ])
}
