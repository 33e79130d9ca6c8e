//! apalis on PostgreSQL: enqueues jobs, drains them, prints a line of JSON.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};

static DONE: AtomicU64 = AtomicU64::new(0);

async fn nothing(_: u64) -> Result<(), BoxDynError> {
    DONE.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let jobs: u64 = std::env::args().nth(1).as_deref().unwrap_or("5000").parse()?;
    let url = std::env::var("DATABASE_URL")?;
    let pool = PgPool::connect(&url).await?;
    let looking = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&url).await?;
    PostgresStorage::setup(&pool).await?;
    let config = Config::default().queue("nothing").batch_size(500);
    let mut backend = PostgresStorage::new(&pool).with_config(config);
    let begun = Instant::now();
    let mut numbers = futures::stream::iter(0..jobs);
    backend.push_stream(&mut numbers).await?;
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let worker = WorkerBuilder::new("bench").backend(backend).concurrency(500).build(nothing);
    tokio::spawn(async move { worker.run().await.expect("the worker runs") });
    while DONE.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Until the database knows it.
    let left = "select count(*) from apalis.jobs where status <> 'Done'";
    while sqlx::query_scalar::<_, i64>(left).fetch_one(&looking).await? > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drained = jobs as f64 / begun.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "enqueued_per_s": enqueued, "drained_per_s": drained }));
    std::process::exit(0);
}
