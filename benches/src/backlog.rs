//! P6: claims beside millions of ready steps, sleeping steps and finished steps.

use std::time::Instant;

use longhaul::{Payload, Step};

use crate::{
    bench::{Bench, Outcome, progress, quantile},
    report::Row,
};

/// Rows that are filled in by one statement.
const PORTION: usize = 500_000;

pub async fn backlog(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("quick", Step::new("a", "nothing").queue("backlog").priority(1)).await?;
    bench.deploy("deep", Step::new("a", "nothing").queue("backlog").priority(9)).await?;
    let empty = claims(bench, "empty").await?;
    let rows = (bench.scale.millions * 0.5e6) as usize;
    let bar = progress("filling", 4 * rows as u64);
    let connection = bench.connection().await?;
    // By SQL alone: as many ready steps as sleeping ones, and twice as many that have ended.
    for (room, many) in [(Some("task"), rows), (Some("timer"), rows), (None, 2 * rows)] {
        for first in (0..many).step_by(PORTION) {
            let portion = PORTION.min(many - first);
            connection.batch_execute(&fill(room, first, portion)).await?;
            bar.inc(portion as u64);
        }
    }
    bar.finish_and_clear();
    // As after some time: without what filling leaves behind.
    let tables = ["task", "timer", "run", "step"];
    let bar = progress("vacuum", tables.len() as u64);
    for table in tables {
        connection.batch_execute(&format!("vacuum (analyze) longhaul.{table}")).await?;
        bar.inc(1);
    }
    connection.batch_execute("checkpoint").await?;
    bar.finish_and_clear();
    let full = claims(bench, "full").await?;
    let (p50, p99) = (quantile(empty.clone(), 0.5), quantile(empty, 0.99));
    let (full_p50, full_p99) = (quantile(full.clone(), 0.5), quantile(full, 0.99));
    Ok(vec![
        Row::new("P6", "claim, empty tables, p50", p50, "ms"),
        Row::new("P6", "claim, empty tables, p99", p99, "ms"),
        Row::new("P6", format!("claim beside {rows} ready, {rows} asleep, {} finished, p50", rows * 2), full_p50, "ms"),
        Row::new("P6", "the same, p99", full_p99, "ms"),
        Row::new("P6", "p99 beside empty tables", full_p99 / p99, "times").at_most(1.2),
    ])
}

/// Milliseconds of claims, one step each, from a lane that always has some.
async fn claims(bench: &Bench, what: &str) -> Outcome<Vec<f64>> {
    let many = (bench.scale.runs / 20).max(1000);
    let worker = bench.register("backlog").await?;
    let calls = bench.client.database().calls().await?;
    let bar = progress(what, many as u64);
    let mut times = Vec::new();
    // The first ones meet cold caches.
    for round in 0..many + 200 {
        bench.client.start("quick", &round).await?;
        let begun = Instant::now();
        let claimed = calls.claim(worker, &["backlog"], &[1]).await?;
        if round >= 200 {
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        calls.complete(worker, &[(claimed[0].key, Payload::null())]).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(times)
}

/// Runs of one step each, in the middle of their lives: the step stands in that room, or has ended.
fn fill(room: Option<&str>, first: usize, many: usize) -> String {
    let place = match room {
        Some("task") => {
            "insert into task (run_id, position, lane_id, seq, attempt, priority, failures) select id, 1000000 + n, lane, 0, 0, 9, 0 from filled"
        }
        Some(_) => {
            "insert into timer (run_id, fire_at, seq, attempt, failures, kind, lane_id, priority) select id, now() + interval '1 day' + n * interval '1 millisecond', 0, 0, 0, 'retry', lane, 9 from filled"
        }
        None => "insert into step (run_id, ended_at, seq, outcome) select id, now(), 0, 'completed' from filled",
    };
    let (state, open) = if room.is_some() { ("running", 1) } else { ("completed", 0) };
    format!(
        "set search_path = longhaul, pg_temp;
         create temp table filled as
           select new_run_id() as id, n, f.id as flow, s.lane_id as lane
           from generate_series({first} + 1, {first} + {many}) n, flow f join flow_step s on s.flow_id = f.id where f.name = 'deep';
         insert into run (id, created_at, flow_id, open_steps, state, tenant, input) select id, now(), flow, {open}, '{state}', 'default', '{{}}' from filled;
         {place};
         drop table filled;
         reset search_path"
    )
}
