//! P1, P2, P3, P9, P13: starting and draining.

use std::{process::Child, time::Instant};

use longhaul::{Flow, Step};

use crate::{
    bench::{Bench, Outcome, median, progress},
    report::Row,
};

/// P1, P9: single-step runs; what they cost the database.
pub async fn drain(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("single", Step::new("a", "nothing").queue("drain")).await?;
    let runs = bench.scale.runs;
    let bar = progress("drain", bench.scale.rounds as u64);
    let (mut starts, mut drains, mut wal, mut transactions, mut few) = (vec![], vec![], vec![], vec![], vec![]);
    // Once and not in each round: at this rate there are millions of runs between two checkpoints, after each of which the
    // pages of the rooms are written whole.
    bench.connection().await?.batch_execute("checkpoint").await?;
    for _ in 0..bench.scale.rounds {
        let before = cost(bench).await?;
        starts.push(bench.start_runs("single", runs).await?);
        drains.push(bench.serve_steps("drain", 1000, runs).await?);
        let after = cost(bench).await?;
        wal.push((after.0 - before.0) / runs as f64);
        transactions.push((after.1 - before.1) / runs as f64);

        bench.start_runs("single", runs / 2).await?;
        few.push(bench.serve_steps("drain", 64, runs / 2).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(vec![
        Row::new("P3", "runs started", median(starts), "runs/s"),
        Row::new("P1", "single-step runs drained, 1,000 slots", median(drains), "runs/s"),
        Row::new("P1", "the same, 64 slots", median(few), "runs/s"),
        Row::new("P9", "WAL of a run, start to finish", median(wal), "bytes").at_most(1300.0),
        Row::new("P9", "transactions of a run", median(transactions), "").at_most(0.02),
    ])
}

/// Bytes of WAL and transactions since the server was made. A call is one statement and one transaction.
async fn cost(bench: &Bench) -> Outcome<(f64, f64)> {
    // The servers of this session write down what they counted once a second at most.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    let row = bench
        .connection()
        .await?
        .query_one(
            "select (pg_current_wal_insert_lsn() - '0/0')::float8, xact_commit::float8 from pg_stat_database where datname = current_database()",
            &[],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// P2: flows of five steps, one after the other.
pub async fn flows(bench: &Bench) -> Outcome<Vec<Row>> {
    let mut flow = Flow::new("five", 1).step(Step::new("s0", "nothing").queue("flows"));
    for number in 1..5 {
        flow = flow.step(Step::new(format!("s{number}"), "nothing").queue("flows").after(format!("s{}", number - 1)));
    }
    bench.client.deploy(&flow).await?;
    let runs = bench.scale.runs / 5;
    let [rate] = bench
        .compare("five steps", async |_| {
            bench.start_runs("five", runs).await?;
            bench.serve_steps("flows", 1000, runs * 5).await
        })
        .await?;
    Ok(vec![Row::new("P2", "steps of five-step flows drained", rate, "steps/s").at_least(50_000.0)])
}

/// P3: bulk start beside COPY of the same rows into tables of the same shape.
pub async fn start(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("started", Step::new("a", "nothing").queue("start")).await?;
    let runs = bench.scale.runs;
    let file = std::env::temp_dir().join(format!("longhaul-copy-{}", std::process::id()));
    let connection = bench.connection().await?;
    let [start, copy] = bench
        .compare("start", async |which| {
            connection
                .batch_execute("truncate longhaul.task, longhaul.run, longhaul.step, longhaul.attempt cascade")
                .await?;
            let rate = bench.start_runs("started", runs).await?;
            if which == 0 {
                return Ok(rate);
            }
            // The rows go out, the tables are emptied, and the rows come back.
            let mut seconds = 0.0;
            for step in ["to", "from"] {
                if step == "from" {
                    connection
                        .batch_execute("truncate longhaul.task, longhaul.run, longhaul.step cascade; checkpoint")
                        .await?;
                }
                let begun = Instant::now();
                connection.batch_execute("begin").await?;
                for table in ["run", "step", "task"] {
                    let name = format!("{}.{table}", file.display());
                    let copy = match step {
                        "to" => format!("copy (select * from longhaul.{table}) to '{name}' (format binary)"),
                        _ => format!("copy longhaul.{table} from '{name}' (format binary)"),
                    };
                    connection.batch_execute(&copy).await?;
                }
                connection.batch_execute("commit").await?;
                seconds = begun.elapsed().as_secs_f64();
            }
            Ok(runs as f64 / seconds)
        })
        .await?;
    for table in ["run", "step", "task"] {
        std::fs::remove_file(format!("{}.{table}", file.display()))?;
    }
    Ok(vec![
        Row::new("P3", "COPY of the same rows, by the server from a file", copy, "runs/s"),
        Row::new("P3", "bulk start beside it", start / copy, "times").at_least(0.6),
    ])
}

/// How long idle workers take to ask as seldom as they will.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(30);

/// P13: worker processes.
pub async fn scaling(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("scaled", Step::new("a", "nothing").queue("scaling")).await?;
    const PROCESSES: [usize; 4] = [1, 2, 4, 8];
    let rates: [f64; 4] = bench
        .compare("processes", async |which| {
            bench.start_runs("scaled", bench.scale.runs).await?;
            let processes = Processes::start(bench, "scaling", PROCESSES[which], 500)?;
            let rate = until_empty(bench, "scaling").await?;
            drop(processes);
            Ok(rate)
        })
        .await?;
    let [alone, beside] = bench
        .compare("64 idle workers", async |which| {
            let idle: Vec<_> = (0..64 * which).map(|_| bench.serve("nobody", 10)).collect::<Outcome<_>>()?;
            // Until they have come to rest: each plans its first calls, and polls more often at first.
            tokio::time::sleep(SETTLING * which as u32).await;
            let rate = bench.drain("scaled", "scaling", bench.scale.runs).await;
            for serving in idle {
                serving.stop().await?;
            }
            rate
        })
        .await?;
    let mut rows = Vec::new();
    let mut best: f64 = 0.0;
    for (processes, rate) in PROCESSES.into_iter().zip(rates) {
        let row = Row::new("P13", format!("{processes} worker processes"), rate, "runs/s");
        rows.push(row);
        if processes > 1 {
            rows.push(
                Row::new("P13", format!("{processes} beside the best of fewer"), rate / best, "times").at_least(0.95),
            );
        }
        best = best.max(rate);
    }
    rows.push(Row::new("P13", "one worker beside 64 on an empty queue", beside / alone, "times").at_least(0.95));
    Ok(rows)
}

/// Runs/s from the first completion until a queue is empty: processes take their time to start.
async fn until_empty(bench: &Bench, queue: &str) -> Outcome<f64> {
    let left = format!(
        "select count(*) from longhaul.task t join longhaul.lane l on l.id = t.lane_id join longhaul.queue q on q.id = l.queue_id where q.name = '{queue}'"
    );
    let all: i64 = bench.value(&left).await?;
    let (mut first, mut begun) = (all, Instant::now());
    loop {
        let now: i64 = bench.value(&left).await?;
        if first == all {
            (first, begun) = (now, Instant::now());
        }
        if now == 0 {
            return Ok((first - now) as f64 / begun.elapsed().as_secs_f64());
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}

/// Worker processes of this program; killed when dropped.
struct Processes(Vec<Child>);

impl Processes {
    fn start(bench: &Bench, queue: &str, processes: usize, slots: usize) -> Outcome<Self> {
        Ok(Self((0..processes).map(|_| bench.spawn_worker(queue, slots)).collect::<Outcome<_>>()?))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is no matter.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
