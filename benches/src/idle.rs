//! P10: what idle workers cost.

use std::time::Duration;

use crate::{
    bench::{Bench, Outcome, progress, server_processor_seconds},
    report::Row,
};

pub async fn idle(bench: &Bench) -> Outcome<Vec<Row>> {
    let seconds = if bench.scale.rounds > 1 { 20 } else { 5 };
    let many = if bench.scale.rounds > 1 { 1000 } else { 100 };
    // Until they have found out that there is nothing to do.
    let settling = Duration::from_secs(if bench.scale.rounds > 1 { 120 } else { 10 });
    let bar = progress("idle workers", 3);
    // Its chores would be counted as well.
    bench.stop_scheduler();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let base = transactions(bench, seconds).await?;
    bar.inc(1);

    let mut child = bench.spawn_worker("idle", 10)?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let one = transactions(bench, seconds).await? - base;
    let resident = resident_mib(child.id())?;
    child.kill()?;
    child.wait()?;
    bar.inc(1);

    let fleet = (0..many).map(|_| bench.serve("idle", 10)).collect::<Outcome<Vec<_>>>()?;
    tokio::time::sleep(settling).await;
    let before = server_processor_seconds()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = server_processor_seconds()? - before;
    let processors = std::thread::available_parallelism()?.get() as f64;
    for serving in fleet {
        serving.stop().await?;
    }
    bar.finish_and_clear();
    Ok(vec![
        Row::new("P10", "queries of an idle worker", one.max(0.0), "1/s").at_most(1.0),
        Row::new("P10", "resident memory of an idle worker process", resident, "MiB").at_most(20.0),
        Row::new(
            "P10",
            format!("idle time of the database beside {many} idle workers"),
            100.0 * (1.0 - used / seconds as f64 / processors),
            "%",
        )
        .at_least(95.0),
    ])
}

/// Transactions a second of everybody.
async fn transactions(bench: &Bench, seconds: u64) -> Outcome<f64> {
    let query = "select (xact_commit + xact_rollback)::float8 from pg_stat_database where datname = current_database()";
    let before: f64 = bench.value(query).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after: f64 = bench.value(query).await?;
    Ok((after - before) / seconds as f64)
}

fn resident_mib(process: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no figure")?.parse::<f64>()? / 1024.0)
}
