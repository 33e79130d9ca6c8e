//! Awa: enqueues jobs, drains them, prints a line of JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use awa::{Client, InsertOpts, JobArgs, JobResult, QueueConfig};
use longhaul_compare::Call;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct Nothing {
    n: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::read()?;
    let jobs = call.jobs;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(call.setting("pool")?)
        .connect(&std::env::var("DATABASE_URL")?)
        .await?;
    awa::migrations::run(&pool).await?;
    let done = Arc::new(AtomicU64::new(0));
    let counter = done.clone();
    let config = QueueConfig {
        max_workers: call.setting("concurrency")?,
        claimers: call.setting("claimers")?,
        claim_batch_size: call.setting("batch")?,
        poll_interval: Duration::from_millis(50),
        deadline_duration: Duration::ZERO,
        ..QueueConfig::default()
    };
    let client = Client::builder(pool.clone())
        .queue("bench", config)
        .register::<Nothing, _, _>(move |_, _| {
            let counter = counter.clone();
            async move {
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(JobResult::Completed)
            }
        })
        .build()?;
    let begun = Instant::now();
    for from in (0..jobs).step_by(5000) {
        let batch = (from..(from + 5000).min(jobs))
            .map(|n| {
                let opts = InsertOpts { queue: "bench".into(), ..InsertOpts::default() };
                awa::model::insert::params_with(&Nothing { n }, opts)
            })
            .collect::<Result<Vec<_>, _>>()?;
        awa::insert_many_copy_from_pool(&pool, &batch).await?;
    }
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    client.start().await?;
    while done.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let drained = jobs as f64 / begun.elapsed().as_secs_f64();
    longhaul_compare::print(enqueued, drained);
    std::process::exit(0);
}
