//! DBOS for Rust: runs workflows of so many steps, prints a line of JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use dbos::{Config, DBOS, Error};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let workflows: u64 = std::env::args().nth(1).as_deref().unwrap_or("5000").parse()?;
    let steps: u32 = std::env::args().nth(2).as_deref().unwrap_or("1").parse()?;
    let config = Config {
        app_version: Some("1".into()),
        max_connections: 20,
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
    let tasks: Vec<_> = (0..64)
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
    println!("{}", serde_json::json!({ "enqueued_per_s": rate, "drained_per_s": rate }));
    std::process::exit(0);
}
