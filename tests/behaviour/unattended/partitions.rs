//! Partitions of the history, in whatever state a clock, a setting or an outage has left them.

use longhaul::{Error, Step};

use crate::harness::{TestDb, nothing, with_database};

/// Each partition begins where the one before ends, for every table.
async fn assert_no_gap(db: &TestDb) {
    let gaps: i64 = db
        .value(
            "select count(*) from unnest(longhaul.history_tables()) t cross join lateral (
               select p.from_id, lag(p.to_id) over (order by p.from_id) as before from longhaul.partitions_of('longhaul.' || t) p
               where p.to_id > longhaul.uuid_at(now())) g
             where g.before <> g.from_id",
        )
        .await;
    assert_eq!(gaps, 0);
}

/// Days from now to the end of the last partition, of the table that has the fewest.
async fn days_ahead(db: &TestDb) -> f64 {
    db.value(
        "select min(e.days) from unnest(longhaul.history_tables()) t cross join lateral (
           select (extract(epoch from max(longhaul.time_of_id(p.to_id)) - now()) / 86400)::float8 as days from longhaul.partitions_of('longhaul.' || t) p) e",
    )
    .await
}

async fn astray(db: &TestDb) -> i64 {
    db.value("select (select count(*) from longhaul.run_default) + (select count(*) from longhaul.step_default)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn their_width_can_be_changed_at_any_time() {
    with_database(|db| async move {
        let calls = db.calls().await;
        for (days, ahead) in [(2, 20), (5, 9), (30, 2)] {
            calls.set_setting("partition_days", days).await.unwrap();
            calls.set_setting("partitions_ahead", ahead).await.unwrap();
            db.execute("select longhaul.make_partitions()").await;
            assert_no_gap(&db).await;
            assert!(days_ahead(&db).await >= (days * ahead) as f64, "{days} days, {ahead} ahead");
        }
        assert_eq!(db.value::<i64>("select longhaul.make_partitions()").await, 0);
        assert!(calls.partition_troubles().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_came_before_their_partition_move_into_it() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        // No scheduler was there for too long.
        db.execute(
            "do $$ declare v_part regclass; begin
               for v_part in select p.part from unnest(longhaul.history_tables()) t cross join lateral longhaul.partitions_of('longhaul.' || t) p loop
                 execute format('drop table %s', v_part);
               end loop;
             end $$",
        )
        .await;
        let client = db.client().await;
        client.start_many("f", 0..20).await.unwrap();
        // And a clock was ahead, and another one far behind.
        for days in ["45 days", "-400 days"] {
            db.execute(&format!(
                "with past as (
                   insert into longhaul.run (id, created_at, ended_at, flow_id, open_steps, state, tenant, input)
                   select longhaul.uuid_at(now() + interval '{days}'), now(), now(), 1, 0, 'completed', 'default', '{{}}' returning id)
                 insert into longhaul.step (run_id, ended_at, seq, outcome) select id, now(), 0, 'completed' from past"
            ))
            .await;
        }
        assert_eq!(astray(&db).await, 24);
        assert!(!db.calls().await.partition_troubles().await.unwrap().is_empty());
        while db.value::<i64>("select longhaul.make_partitions()").await > 0 {}
        assert_eq!(astray(&db).await, 0);
        // The one far ahead is not in the way of those that come before it.
        db.calls().await.set_setting("partitions_ahead", 8).await.unwrap();
        db.execute("select longhaul.make_partitions()").await;
        assert_no_gap(&db).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 22);
        assert!(db.calls().await.partition_troubles().await.unwrap().is_empty());
        let worker = db.spawn(db.worker().handler("h", nothing));
        db.until_all_completed().await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_uses_does_not_stop_the_others() {
    with_database(|db| async move {
        db.calls().await.set_setting("partitions_ahead", 12).await.unwrap();
        let ends = |table: &'static str| {
            let db = db.clone();
            async move {
                db.value::<i64>(&format!("select count(*) from longhaul.partitions_of('longhaul.{table}')")).await
            }
        };
        let before = ends("attempt").await;
        let mut connection = db.database.connection().await.unwrap();
        let reader = connection.transaction().await.unwrap();
        reader.batch_execute("select count(*) from longhaul.attempt_default").await.unwrap();
        assert!(db.value::<i64>("select longhaul.make_partitions()").await > 0);
        assert_eq!((ends("attempt").await, ends("run").await, ends("event").await), (before, before + 8, before + 8));
        // Now there is nothing else to do: the chore says what is in its way.
        let failure = db.database.connection().await.unwrap().query_one("select longhaul.make_partitions()", &[]).await;
        assert!(failure.unwrap_err().as_db_error().unwrap().message().contains("attempt"));
        reader.rollback().await.unwrap();
        assert_eq!(db.value::<i64>("select longhaul.make_partitions()").await, 8);
        assert_no_gap(&db).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_not_mistaken_for_a_partition() {
    with_database(|db| async move {
        db.execute(
            "select set_config('longhaul.next', to_char(max(longhaul.time_of_id(to_id)) at time zone 'UTC', 'YYYYMMDD'), false)
             from longhaul.partitions_of('longhaul.run');
             do $$ begin execute format('create table longhaul.run_%s (x int)', current_setting('longhaul.next')); end $$",
        )
        .await;
        db.calls().await.set_setting("partitions_ahead", 12).await.unwrap();
        db.execute("select longhaul.make_partitions()").await;
        assert_no_gap(&db).await;
        assert!(days_ahead(&db).await >= 84.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_have_bounds_at_both_ends() {
    with_database(|db| async move {
        let calls = db.calls().await;
        db.deploy_single("f", Step::new("a", "h")).await;
        let settings: Vec<String> = {
            let rows = db.database.connection().await.unwrap();
            let rows =
                rows.query("select name from longhaul.setting where name <> 'clock_offset_ms'", &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        };
        for name in settings {
            for value in [i64::MAX, 1 << 40, 0, -1, i64::MIN] {
                let refused = calls.set_setting(&name, value).await;
                assert!(matches!(refused, Err(Error::Invalid(_))), "{name} = {value}: {refused:?}");
            }
            let most: i64 = db.value(&format!("select most from longhaul.setting where name = '{name}'")).await;
            if !name.starts_with("partition") {
                calls.set_setting(&name, most).await.unwrap();
            }
        }
        assert!(matches!(calls.set_setting("nothing", 1).await, Err(Error::NotFound(_))));
        db.client().await.start("f", &1).await.unwrap();
        let old = longhaul::calls::RetentionPolicy {
            name: "old".into(),
            state: None,
            flow: None,
            age: std::time::Duration::from_secs(86_400 * 365 * 200_000),
            keep_last: 0,
            archive: false,
        };
        assert!(matches!(calls.put_retention_policy("default", &old).await, Err(Error::Invalid(_))));
        db.execute("select longhaul.run_retention(), longhaul.drop_partitions()").await;
    })
    .await;
}
