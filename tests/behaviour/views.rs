//! What operators read with SQL: every column says what it is, one name means one thing, and the figures are right.

use longhaul::{Retry, Step, StepContext, StepError};
use serde_json::Value;

use crate::harness::{eventually, with_database};

#[tokio::test(flavor = "multi_thread")]
async fn every_view_and_every_column_of_a_view_or_table_says_what_it_is() {
    with_database(|db| async move {
        let silent: Vec<String> = db
            .value(
                "select coalesce(array_agg(x.name order by x.name), '{}') from (
                   select c.relname || '.' || a.attname as name
                   from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   where c.relnamespace = 'longhaul'::regnamespace and c.relkind in ('v', 'r', 'p') and not c.relispartition and col_description(c.oid, a.attnum) is null
                   union all
                   select c.relname::text from pg_class c
                   where c.relnamespace = 'longhaul'::regnamespace and c.relkind = 'v' and obj_description(c.oid, 'pg_class') is null) x",
            )
            .await;
        assert!(silent.is_empty(), "these say nothing; add them to schema/sql/columns.sql: {silent:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thing_has_one_name_in_all_views() {
    with_database(|db| async move {
        // A name has one type wherever it stands.
        let double: Vec<String> = db
            .value(
                "select coalesce(array_agg(x.attname::text), '{}') from (
                   select a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
                   where c.relnamespace = 'longhaul'::regnamespace and c.relkind = 'v'
                     and a.attname in ('run_id', 'step', 'seq', 'flow', 'queue', 'handler', 'worker', 'worker_id', 'tenant', 'schedule', 'lock', 'gate', 'attempt', 'run_name', 'version')
                     and (c.relname, a.attname) <> ('workers', 'version')
                   group by a.attname having count(distinct a.atttypid) > 1) x",
            )
            .await;
        assert!(double.is_empty(), "{double:?}");
        // Each view that is about one of these calls it so.
        for (view, names) in [
            ("runs", "run_id, run_name, flow, version, tenant"),
            ("steps", "run_id, step, seq, handler, queue, worker_id, attempt, tenant"),
            ("leases", "run_id, step, seq, handler, queue, worker_id, worker, attempt, tenant"),
            ("timers", "run_id, step, seq, flow, tenant"),
            ("waits", "run_id, step, seq, flow, tenant"),
            ("questions", "run_id, run_name, step, seq, flow, tenant"),
            ("dead_letters", "run_id, run_name, step, seq, flow, version, handler, queue, attempt, tenant"),
            ("queues", "queue, handler, ready, running, workers, first_run_id, first_seq, oldest_ready_at, paused_at, tenant"),
            ("queue_limits", "queue, tenant"),
            ("queue_figures", "queue, tenant"),
            ("gates", "gate, key, most, used, queued, tenant"),
            ("workers", "worker_id, worker, tenant"),
            ("flow_versions", "flow, version, tenant"),
            ("schedules", "schedule, flow, version, tenant"),
            ("failed_ticks", "schedule, tenant"),
            ("locks", "lock, tenant"),
            ("throughput", "at, tenant, flow, queue, handler, completed, failed, attempts_failed"),
            ("sizes", "table_name, bytes"),
        ] {
            db.execute(&format!("select {names} from longhaul.{view} limit 1")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_say_what_stands_first_and_throughput_what_ended() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("f", Step::new("a", "even").retry(Retry::fixed(1, std::time::Duration::ZERO))).await;
        let first = client.start("f", &1).await.unwrap().id();
        for number in 2..=10 {
            client.start("f", &number).await.unwrap();
        }
        client.pause_queue("default", Some("anna")).await.unwrap();
        let said: String = db
            .value("select format('%s %s %s %s %s %s', queue, ready, running, first_run_id, first_seq, paused_by) from longhaul.queues")
            .await;
        assert_eq!(said, format!("default 10 0 {first} 0 anna"));
        client.resume_queue("default").await.unwrap();
        let even = |_: StepContext, number: Value| async move {
            if number.as_i64().unwrap_or(1) % 2 == 0 { Ok(()) } else { Err(StepError::fail("odd")) }
        };
        let worker = db.spawn(db.worker().queue("default", 4).handler("even", even));
        eventually("all have ended", || async { db.value::<i64>("select count(*) from longhaul.run where ended_at is null").await == 0 }).await;
        let said: String = db
            .value("select format('%s %s %s %s %s %s', sum(completed), sum(failed), sum(attempts_failed), bool_and(whole), min(queue), min(handler)) from longhaul.throughput")
            .await;
        assert_eq!(said, "5 5 5 t default even");
        // Only the newest runs are looked at, and that is said.
        let said: String = db
            .value("select format('%s %s', sum(completed) + sum(failed), bool_or(whole)) from longhaul.throughput_of(longhaul.present() - interval '1 hour', '1 hour', 4)")
            .await;
        assert_eq!(said, "4 f");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pins_the_horizon_is_named_with_what_ends_it() {
    with_database(|db| async move {
        let connection = db.database.connection().await.unwrap();
        connection
            .batch_execute("begin isolation level repeatable read; select count(*) from longhaul.run")
            .await
            .unwrap();
        let pid: i32 = connection.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let pins = db.calls().await.horizon_pins().await.unwrap();
        let pin = pins.iter().find(|pin| pin.pid == Some(pid)).unwrap_or_else(|| panic!("{pid}: {pins:?}"));
        assert_eq!(pin.remedy, format!("select pg_terminate_backend({pid})"));
        assert!(pin.username.is_some() && pin.seconds.is_some());
        db.execute(&pin.remedy).await;
        eventually("nobody pins it", || async {
            db.calls().await.horizon_pins().await.unwrap().iter().all(|pin| pin.pid != Some(pid))
        })
        .await;
    })
    .await;
}
