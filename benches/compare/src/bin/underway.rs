//! Underway: enqueues jobs, drains them, prints a line of JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use longhaul_compare::Call;
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Transaction};
use underway::{Queue, Task, Worker, task::Result as TaskResult};

static DONE: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Serialize, Deserialize)]
struct Nothing {
    n: u64,
}

struct NothingTask;

impl Task for NothingTask {
    type Input = Nothing;
    type Output = ();

    async fn execute(&self, _: Transaction<'_, Postgres>, _: Nothing) -> TaskResult<()> {
        DONE.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::read()?;
    let jobs = call.jobs;
    let concurrency: usize = call.setting("concurrency")?;
    let pool = sqlx::postgres::PgPoolOptions::new()
        // One transaction, and so one connection, for each.
        .max_connections(concurrency as u32 + 4)
        .connect(&std::env::var("DATABASE_URL")?)
        .await?;
    underway::run_migrations(&pool).await?;
    let queue: Arc<Queue<NothingTask>> = Arc::new(Queue::builder().name("nothing").pool(pool.clone()).build().await?);
    let begun = Instant::now();
    let inputs: Vec<Nothing> = (0..jobs).map(|n| Nothing { n }).collect();
    queue.enqueue_multi(&pool, &NothingTask, &inputs).await?;
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();
    let mut worker = Worker::new(queue, NothingTask);
    worker.set_concurrency_limit(concurrency);
    let begun = Instant::now();
    tokio::spawn(async move { worker.run().await.expect("the worker runs") });
    while DONE.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let drained = jobs as f64 / begun.elapsed().as_secs_f64();
    longhaul_compare::print(enqueued, drained);
    std::process::exit(0);
}
