//! DBOS for Rust: runs workflows of so many steps, prints a line of JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use dbos::{Config, DBOS, Error};
use longhaul_compare::Call;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::read()?;
    let workflows = call.jobs;
    let steps: u32 = call.setting("steps")?;
    let concurrency: u64 = call.setting("concurrency")?;
    let config = Config {
        app_version: Some("1".into()),
        max_connections: call.setting("pool")?,
        ..Config::new("bench", std::env::var("DATABASE_URL")?)
    };
    let dbos = DBOS::new(config);
    let workflow = dbos.register_workflow("bench", |steps: u32| async move {
        for _ in 0..steps {
            dbos::step("nothing", || async { Ok::<_, Error>(()) }).await?;
        }
        Ok::<_, Error>(())
    })?;
    dbos.launch().await?;
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..concurrency)
        .map(|_| {
            let (next, workflow) = (next.clone(), workflow.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < workflows {
                    workflow.run(steps).await.map_err(|e| e.to_string())?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let rate = workflows as f64 / begun.elapsed().as_secs_f64();
    longhaul_compare::print(rate, rate);
    std::process::exit(0);
}
