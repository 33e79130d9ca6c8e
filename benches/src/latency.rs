//! P4: how soon a handler begins after its run was started, on an idle system.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use longhaul::{Step, StepContext, StepError, Worker};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    bench::{Bench, Outcome, Serving, progress, quantile},
    report::Row,
};

pub async fn latency(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("one", Step::new("a", "tells").queue("latency")).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let tell = Arc::new(Mutex::new(tell));
    let tells = move |_: StepContext, _: Value| {
        let told = tell.lock().expect("no panics here").send(Instant::now());
        async move { told.map_err(|_| StepError::fail("nobody listens")) }
    };
    let worker = Worker::builder(&bench.config).handler("tells", tells).queue("latency", 4).build()?;
    let serving = Serving::of(worker)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rounds = bench.scale.runs / 100;
    let connection = bench.connection().await?;
    connection
        .batch_execute("create table public.by_hand (id bigint generated always as identity primary key, payload jsonb); listen by_hand")
        .await?;
    let bar = progress("latency", rounds as u64);
    let (mut handlers, mut floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let begun = Instant::now();
        bench.client.start("one", &round).await?;
        let at = told.recv().await.ok_or("the worker has gone")?;
        handlers.push(at.duration_since(begun).as_secs_f64() * 1000.0);

        let begun = Instant::now();
        connection
            .execute(
                "with new as (insert into public.by_hand (payload) values ('{}')) select pg_notify('by_hand', '')",
                &[],
            )
            .await?;
        connection
            .query("delete from public.by_hand where id = (select id from public.by_hand order by id limit 1 for update skip locked) returning payload", &[])
            .await?;
        floor.push(begun.elapsed().as_secs_f64() * 1000.0);
        // The worker completes its step, and is idle again.
        tokio::time::sleep(Duration::from_millis(10)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    connection.batch_execute("drop table public.by_hand; unlisten *").await?;
    serving.stop().await?;
    let at = |values: &Vec<f64>, part| quantile(values.clone(), part);
    Ok(vec![
        Row::new("P4", "start to handler, p50", at(&handlers, 0.5), "ms"),
        Row::new("P4", "start to handler, p99", at(&handlers, 0.99), "ms"),
        Row::new("P4", "commit, notify and claim by hand, p50", at(&floor, 0.5), "ms"),
        Row::new("P4", "commit, notify and claim by hand, p99", at(&floor, 0.99), "ms"),
        Row::new("P4", "p50 beside by hand", at(&handlers, 0.5) / at(&floor, 0.5), "times").at_most(1.5),
        Row::new("P4", "p99 beside by hand", at(&handlers, 0.99) / at(&floor, 0.99), "times").at_most(3.0),
    ])
}
