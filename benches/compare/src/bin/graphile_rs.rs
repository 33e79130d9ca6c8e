//! Graphile Worker RS: enqueues jobs, drains them, prints a line of JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use longhaul_compare::Call;
use serde::{Deserialize, Serialize};

static DONE: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Serialize, Deserialize)]
struct Nothing {
    n: u64,
}

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        DONE.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::read()?;
    let jobs = call.jobs;
    let batch_delay = Duration::from_millis(call.setting("batch_ms")?);
    let url = std::env::var("DATABASE_URL")?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&url).await?;
    let worker = WorkerOptions::default()
        .database_url(&url)
        .max_pg_conn(call.setting("pool")?)
        .concurrency(call.setting("concurrency")?)
        .local_queue(
            LocalQueueConfig::default().with_size(call.setting("queue")?).with_queue_count(call.setting("queues")?),
        )
        .complete_job_batch_delay(batch_delay)
        .fail_job_batch_delay(batch_delay)
        .define_job::<Nothing>()
        .init()
        .await?;
    let utils = worker.create_utils();
    utils.migrate().await?;
    let begun = Instant::now();
    for from in (0..jobs).step_by(5000) {
        let batch: Vec<RawJobSpec> = (from..(from + 5000).min(jobs))
            .map(|n| RawJobSpec {
                identifier: "nothing".into(),
                payload: serde_json::json!({ "n": n }),
                spec: JobSpec::default(),
            })
            .collect();
        utils.add_raw_jobs(&batch).await?;
    }
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let worker = Arc::new(worker);
    let running = worker.clone();
    tokio::spawn(async move { running.run().await.expect("the worker runs") });
    while DONE.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The last batch may still be on its way to the database: no question of ours delays it.
    let drained = jobs as f64 / begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left: i64 = sqlx::query_scalar("select count(*) from graphile_worker._private_jobs").fetch_one(&pool).await?;
    if left > 0 {
        return Err(format!("{left} jobs are left").into());
    }
    longhaul_compare::print(enqueued, drained);
    std::process::exit(0);
}
