//! apalis on PostgreSQL: enqueues jobs, drains them, prints a line of JSON.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use longhaul_compare::Call;

static DONE: AtomicU64 = AtomicU64::new(0);

async fn nothing(_: u64) -> Result<(), BoxDynError> {
    DONE.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::read()?;
    let jobs = call.jobs;
    let url = std::env::var("DATABASE_URL")?;
    let pool: PgPool =
        sqlx::postgres::PgPoolOptions::new().max_connections(call.setting("pool")?).connect(&url).await?;
    let looking = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&url).await?;
    PostgresStorage::setup(&pool).await?;
    let config = Config::default().queue("nothing").batch_size(call.setting("batch")?);
    let mut backend = PostgresStorage::new(&pool).with_config(config);
    let begun = Instant::now();
    let mut numbers = futures::stream::iter(0..jobs);
    backend.push_stream(&mut numbers).await?;
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let worker = WorkerBuilder::new("bench").backend(backend).concurrency(call.setting("concurrency")?).build(nothing);
    tokio::spawn(async move { worker.run().await.expect("the worker runs") });
    while DONE.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The last batch may still be on its way to the database: no question of ours delays it.
    let drained = jobs as f64 / begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left: i64 =
        sqlx::query_scalar("select count(*) from apalis.jobs where status <> 'Done'").fetch_one(&looking).await?;
    if left > 0 {
        return Err(format!("{left} jobs are left").into());
    }
    longhaul_compare::print(enqueued, drained);
    std::process::exit(0);
}
