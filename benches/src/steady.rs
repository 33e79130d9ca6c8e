//! P11: a steady load at half of what can be drained.

use std::time::{Duration, Instant};

use longhaul::{Payload, Step, calls::RetentionPolicy};

use crate::{
    bench::{Bench, Outcome, milliseconds, progress, quantile},
    plot,
    report::Row,
};

const TICK: Duration = Duration::from_millis(250);
/// One point of the plot.
const WINDOW: Duration = Duration::from_secs(10);
const ROOMS: &str = "select sum(pg_total_relation_size(c.oid))::float8 / 1048576
    from pg_class c where c.oid in ('longhaul.task'::regclass, 'longhaul.lease'::regclass)";
const HISTORY: &str = "select sum(pg_total_relation_size(p.inhrelid))::float8 / 1048576
    from pg_inherits p where p.inhparent in ('longhaul.run'::regclass, 'longhaul.step'::regclass)";

/// A figure at so many seconds after the beginning.
type Points = Vec<(f64, f64)>;

/// Starts half as many runs a second as can be drained, for so many minutes. With `keep`, runs that ended longer ago are
/// deleted meanwhile, so that the history stays as it is as well.
pub async fn steady(bench: &Bench, minutes: u64, keep: Option<Duration>) -> Outcome<Vec<Row>> {
    bench.deploy("steady", Step::new("a", "nothing").queue("steady")).await?;
    bench.deploy("probe", Step::new("a", "nothing").queue("probe")).await?;
    let portion = (bench.drain("steady", "steady", bench.scale.runs).await? / 2.0 * TICK.as_secs_f64()) as usize;
    let calls = bench.client.database().calls().await?;
    if let Some(age) = keep {
        let policy = RetentionPolicy { name: "all".into(), state: None, flow: None, age, keep_last: 0, archive: false };
        calls.put_retention_policy("default", &policy).await?;
        calls.set_chore_interval("retention", Duration::from_secs(1)).await?;
    }
    let serving = bench.serve("steady", 1000)?;
    let probe = bench.register("probe").await?;

    let begun = Instant::now();
    let length = Duration::from_secs(60 * minutes);
    let bar = progress("steady load", 60 * minutes);
    let (mut rooms, mut history, mut claims) = (Points::new(), Points::new(), Points::new());
    let (mut started, mut next, mut sample_at) = (0, Instant::now(), WINDOW);
    while begun.elapsed() < length {
        next += TICK;
        bench.start_runs("steady", portion).await?;
        started += portion;
        bench.client.start("probe", &0).await?;
        let (claimed, time) = milliseconds(calls.claim(probe, &["probe"], &[1])).await;
        calls.complete(probe, &[(claimed?[0].key, Payload::null())]).await?;
        let seconds = begun.elapsed().as_secs_f64();
        claims.push((seconds, time));
        if begun.elapsed() >= sample_at {
            sample_at += WINDOW;
            rooms.push((seconds, bench.value(ROOMS).await?));
            history.push((seconds, bench.value(HISTORY).await?));
            bar.set_position(seconds as u64);
        }
        tokio::time::sleep_until(next.into()).await;
    }
    let rate = started as f64 / begun.elapsed().as_secs_f64();
    let behind: i64 = bench.value("select count(*) from longhaul.task").await?;
    bar.finish_and_clear();
    serving.stop().await?;

    if let Some(folder) = &bench.plots {
        let slow: Points = claims.chunks(40).map(|window| (window[0].0, quantile(values(window), 0.99))).collect();
        plot::rates(
            &folder.join("steady.svg"),
            "A steady load: MiB of task and lease with their indexes; p99 of claims in ms",
            &[("MiB", &rooms), ("p99 ms", &slow)],
        )?;
    }
    let rooms = growth(&rooms, |half| quantile(half, 0.5));
    let claims = growth(&claims, |half| quantile(half, 0.99));
    let mut rows = vec![
        Row::new("P11", format!("started over {minutes} minutes"), rate, "runs/s"),
        Row::new("P11", "ready steps at the end, in seconds of that load", behind as f64 / rate, "s").at_most(1.0),
        Row::new("P11", "size of task and lease, second half beside the first", rooms, "times").at_most(1.1),
        Row::new("P11", "p99 of claims, second half beside the first", claims, "times").at_most(1.25),
    ];
    if keep.is_some() {
        let history = growth(&history, |half| quantile(half, 0.5));
        rows.push(Row::new("P11", "size of run and step, second half beside the first", history, "times").at_most(1.1));
    }
    Ok(rows)
}

fn values(points: &[(f64, f64)]) -> Vec<f64> {
    points.iter().map(|point| point.1).collect()
}

/// The second half beside the first, from the time on when autovacuum has come round: five minutes, or a sixth of the time.
fn growth(points: &[(f64, f64)], figure: impl Fn(Vec<f64>) -> f64) -> f64 {
    let end = points.last().map_or(0.0, |point| point.0);
    let settled = points.partition_point(|point| point.0 < (end / 6.0).min(300.0));
    let (first, second) = points[settled..].split_at((points.len() - settled) / 2);
    figure(values(second)) / figure(values(first))
}
