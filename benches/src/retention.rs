//! P12: retention, by deleting runs and by dropping partitions.

use std::time::Duration;

use longhaul::{Payload, Step, calls::RetentionPolicy};

use crate::{
    bench::{Bench, Outcome, milliseconds, progress, quantile},
    report::Row,
};

pub async fn retention(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.deploy("kept", Step::new("a", "nothing").queue("retention")).await?;
    let bar = progress("retention", 4);
    let finished = bench.scale.runs;
    bench.drain("kept", "retention", finished).await?;
    bar.inc(1);
    let quiet = claims(bench).await?;
    bar.inc(1);
    policy(bench, Some(Duration::from_millis(1))).await?;
    let deleting = tokio::spawn(delete(bench.client.database().clone(), finished));
    let beside = claims(bench).await?;
    let rate = deleting.await??;
    bar.inc(1);
    policy(bench, None).await?;
    let (runs, drop) = partition_drop(bench).await?;
    bar.finish_and_clear();
    Ok(vec![
        Row::new("P12", "runs deleted", rate, "runs/s").at_least(200_000.0),
        Row::new("P12", format!("a partition of {runs} runs checked and dropped"), drop, "ms").at_most(100.0),
        Row::new("P12", "p99 of claims beside deleting", quantile(beside, 0.99) / quantile(quiet, 0.99), "times")
            .at_most(1.2),
    ])
}

/// Single claims and completions, as an idle fleet makes them: milliseconds of each claim.
async fn claims(bench: &Bench) -> Outcome<Vec<f64>> {
    bench.client.start_many("kept", 0..2000).await?;
    let worker = bench.register("retention").await?;
    let calls = bench.client.database().calls().await?;
    let mut times = Vec::new();
    for _ in 0..2000 {
        let (claimed, time) = milliseconds(calls.claim(worker, &["retention"], &[1])).await;
        times.push(time);
        calls.complete(worker, &[(claimed?[0].key, Payload::null())]).await?;
    }
    Ok(times)
}

/// Wants all runs gone that ended so long ago, or nothing.
async fn policy(bench: &Bench, age: Option<Duration>) -> Outcome<()> {
    let calls = bench.client.database().calls().await?;
    match age {
        Some(age) => {
            let policy =
                RetentionPolicy { name: "all".into(), state: None, flow: None, age, keep_last: 0, archive: false };
            calls.put_retention_policy("default", &policy).await?;
        }
        None => {
            calls.delete_retention_policy("default", "all").await?;
        }
    }
    Ok(())
}

/// Deletes runs, and gives runs/s.
async fn delete(database: longhaul::Database, runs: usize) -> Result<f64, longhaul::Error> {
    let mut connection = database.connection().await?;
    connection.set_call_timeout(Duration::from_secs(600));
    let (mut deleted, begun) = (0_i64, std::time::Instant::now());
    loop {
        let gone: i64 = connection.query_one("select longhaul.run_retention(null, 1000)", &[]).await?.get(0);
        deleted += gone;
        if deleted >= runs as i64 || gone == 0 {
            return Ok(deleted as f64 / begun.elapsed().as_secs_f64());
        }
    }
}

/// Milliseconds that dropping a partition of ended runs takes, with the check that none of them is wanted. The rows are
/// copies of those that were drained, under ids of last month.
async fn partition_drop(bench: &Bench) -> Outcome<(i64, f64)> {
    bench.drain("kept", "retention", bench.scale.runs).await?;
    let connection = bench.connection().await?;
    connection
        .batch_execute(
            "set search_path = longhaul;
             select make_partition(t, date_trunc('day', now()) - interval '42 days', date_trunc('day', now()) - interval '35 days')
             from unnest(array['run', 'step', 'attempt', 'fan_out', 'checkpoint', 'event']) t;
             create temp table old as
               select id, (lpad(to_hex((extract(epoch from now() - interval '40 days') * 1000)::bigint), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid as old
               from run where state = 'completed';
             insert into run (id, created_at, ended_at, flow_id, open_steps, state, tenant, input)
               select o.old, r.created_at - interval '40 days', r.ended_at - interval '40 days', r.flow_id, 0, r.state, r.tenant, r.input from run r join old o on o.id = r.id;
             insert into step (run_id, ended_at, seq, outcome)
               select o.old, s.ended_at, s.seq, s.outcome from step s join old o on o.id = s.run_id;
             reset search_path",
        )
        .await?;
    let runs: i64 = connection.query_one("select count(*) from pg_temp.old", &[]).await?.get(0);
    policy(bench, Some(Duration::from_secs(30 * 86_400))).await?;
    let (dropped, time) = milliseconds(connection.query_one("select longhaul.drop_partitions()", &[])).await;
    assert_eq!(dropped?.get::<_, i64>(0), 1, "the partition is dropped");
    policy(bench, None).await?;
    Ok((runs, time))
}
