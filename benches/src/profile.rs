//! Where the time of a run goes: processor time of server and worker, WAL, and what each function of the schema takes.

use std::time::Duration;

use longhaul::Step;

use crate::{
    bench::{Bench, Outcome, progress, server_processor_seconds},
    report::Row,
};

/// Functions that are shown, of those that take the most time of their own.
const SHOWN: i64 = 12;

/// Starts and drains single-step runs while the server times its functions, which slows it down a little.
pub async fn profile(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("profiled", Step::new("a", "nothing").queue("profile")).await?;
    let runs = bench.scale.runs;
    let bar = progress("profile", 2);
    // Once without looking: caches, plans, and pages that were written since the last checkpoint.
    bench.drain("profiled", "profile", runs).await?;
    bar.inc(1);
    let connection = bench.connection().await?;
    // A statement each: these are not allowed within a transaction.
    for statement in ["alter system set track_functions = 'all'", "select pg_reload_conf()"] {
        connection.batch_execute(statement).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Used::now(bench).await?;
    bench.start_runs("profiled", runs).await?;
    let started = Used::now(bench).await?;
    bench.serve_steps("profile", 1000, runs).await?;
    let drained = Used::now(bench).await?;
    bar.finish_and_clear();

    let mut rows = Vec::new();
    for (what, from, to) in [("start", &before, &started), ("drain", &started, &drained)] {
        let each = |figure: fn(&Used) -> f64| (figure(to) - figure(from)) / runs as f64;
        rows.push(Row::new("", format!("{what}: processor time of the server"), each(|u| u.server) * 1e6, "µs/run"));
        rows.push(Row::new("", format!("{what}: processor time of this process"), each(|u| u.own) * 1e6, "µs/run"));
        rows.push(Row::new("", format!("{what}: WAL"), each(|u| u.wal_bytes), "bytes/run"));
        rows.push(Row::new("", format!("{what}: records of WAL"), each(|u| u.wal_records), "1/run"));
        rows.push(Row::new("", format!("{what}: full pages in it"), each(|u| u.wal_pages), "1/run"));
    }
    let functions = connection
        .query(
            "select funcname::text, self_time, calls from pg_stat_user_functions where schemaname = 'longhaul' order by self_time desc limit $1",
            &[&SHOWN],
        )
        .await?;
    for row in functions {
        let (name, time, calls): (String, f64, i64) = (row.get(0), row.get(1), row.get(2));
        rows.push(Row::new("", format!("in {name}() alone, {calls} calls"), time * 1000.0 / runs as f64, "µs/run"));
    }
    for statement in ["alter system reset track_functions", "select pg_reload_conf()"] {
        connection.batch_execute(statement).await?;
    }
    Ok(rows)
}

/// What was used since the beginning.
struct Used {
    server: f64,
    own: f64,
    wal_bytes: f64,
    wal_records: f64,
    wal_pages: f64,
}

impl Used {
    async fn now(bench: &Bench) -> Outcome<Self> {
        // The servers of a session write down what they counted once a second at most.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let row = bench
            .connection()
            .await?
            .query_one("select wal_bytes::float8, wal_records::float8, wal_fpi::float8 from pg_stat_wal", &[])
            .await?;
        Ok(Self {
            server: server_processor_seconds()?,
            own: own_processor_seconds(),
            wal_bytes: row.get(0),
            wal_records: row.get(1),
            wal_pages: row.get(2),
        })
    }
}

fn own_processor_seconds() -> f64 {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    // SAFETY: an all-zero rusage is valid, and the call fills it in.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
