//! What nobody needs any more goes, and what somebody uses stays.

use longhaul::{Flow, Step};
use serde_json::json;

use crate::harness::{TestDb, nothing, with_database};

async fn rows(db: &TestDb, table: &str) -> i64 {
    db.value(&format!("select count(*) from longhaul.{table}")).await
}

const FORGET: &str = "
    select longhaul.forget_gates(), longhaul.forget_shares(), longhaul.forget_budgets(), longhaul.forget_leftovers(),
           longhaul.forget_workers(), longhaul.forget_locks()";

#[tokio::test(flavor = "multi_thread")]
async fn keys_turns_windows_and_leftovers_are_gone_a_year_after_their_runs() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = json!({"name": "limits", "version": 1, "steps": [
            {"name": "a", "handler": "h", "concurrency": {"key": "$.input.k", "limit": 1}},
            {"name": "b", "handler": "h", "after": ["a"], "fair": {"key": "$.input.k"}},
            {"name": "c", "handler": "h", "after": ["b"], "budget": {"name": "money", "limit": 1000, "per": "1s"}}]});
        db.execute(&format!("select longhaul.deploy('default', '{flow}')")).await;
        client.start_many("limits", (0..30).map(|k| json!({ "k": k }))).await.unwrap();
        let worker = db.spawn(db.worker().handler("h", nothing));
        db.spawn_scheduler();
        db.until_all_completed().await;
        worker.stop().await;
        db.execute(
            "insert into longhaul.progress (run_id, seq, key, value, at) values (longhaul.new_run_id(), 0, 'k', '1', now());
             insert into longhaul.queue_figure values (1, 999999, 0, 0, 0, 0, 0, now());
             insert into longhaul.listener values (1, 999999);
             insert into longhaul.horizon_mark select longhaul.clock() - x * interval '1 hour', '1' from generate_series(1, 100) x;
             insert into longhaul.gate (id, tenant, name, key, most) values (-77, 'default', 'idle', '', 1);",
        )
        .await;
        db.execute("select longhaul.advance_clock('365 days')").await;
        db.execute(FORGET).await;
        // What is left of workers goes after their rows.
        db.execute(FORGET).await;
        for table in ["gate", "fair_share", "budget", "progress", "listener", "queue_figure", "chore_place"] {
            assert_eq!(rows(&db, table).await, 0, "{table}");
        }
        let old = "select count(*) from longhaul.horizon_mark where at < longhaul.clock() - interval '1 hour'";
        assert_eq!(db.value::<i64>(old).await, 0);
        assert_eq!(rows(&db, "flow_step").await, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_counts_or_for_which_somebody_waits_stays_and_one_that_somebody_is_at_is_not_waited_for() {
    with_database(|db| async move {
        db.execute(
            "insert into longhaul.gate (id, tenant, name, key, most) values (-1, 'default', 'idle', '', 1), (-2, 'default', 'told', '', 1), (-3, 'default', 'busy', '', 1);
             insert into longhaul.gate_call (position, gate_id, ended) values (1, -2, 0)",
        )
        .await;
        let mut connection = db.database.connection().await.unwrap();
        let busy = connection.transaction().await.unwrap();
        busy.batch_execute("select from longhaul.gate where id = -3 for update").await.unwrap();
        assert_eq!(db.value::<i64>("select longhaul.forget_gates()").await, 1);
        busy.rollback().await.unwrap();
        let left: String = db.value("select string_agg(name, ' ' order by id desc) from longhaul.gate").await;
        assert_eq!(left, "told busy");
        db.execute("delete from longhaul.gate_call; select longhaul.forget_gates()").await;
        assert_eq!(rows(&db, "gate").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chore_goes_through_a_large_table_bit_by_bit() {
    with_database(|db| async move {
        db.client().await.deploy(&Flow::new("f", 1).step(Step::new("a", "h"))).await.unwrap();
        db.execute(
            "insert into longhaul.fair_share select 1, 'k' || x, 9223372036854775000 from generate_series(1, 12000) x",
        )
        .await;
        db.execute("insert into longhaul.fair_share values (1, 'zzz', 0)").await;
        assert_eq!(db.value::<i64>("select longhaul.forget_shares()").await, 0);
        assert_eq!(rows(&db, "chore_place").await, 1, "it goes on there");
        assert_eq!(db.value::<i64>("select longhaul.forget_shares()").await, 1);
        assert_eq!((rows(&db, "chore_place").await, rows(&db, "fair_share").await), (0, 12_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_lock_that_was_forgotten_go_on_growing() {
    with_database(|db| async move {
        let hold = std::time::Duration::from_secs(60);
        let client = db.client().await;
        let mut last = 0;
        for _ in 0..3 {
            let guard = client.try_lock("month-end", "me", hold).await.unwrap().acquired().unwrap();
            assert!(guard.token() > last);
            last = guard.token();
            guard.release().await.unwrap();
        }
        db.execute("select longhaul.advance_clock('31 days'); select longhaul.forget_locks()").await;
        assert_eq!(rows(&db, "lock").await, 0);
        let guard = client.try_lock("month-end", "me", hold).await.unwrap().acquired().unwrap();
        assert!(guard.token() > last, "{} after {last}", guard.token());
        assert!(
            matches!(client.try_lock("other", "", hold).await, Err(longhaul::Error::Invalid(_))),
            "nobody is no holder"
        );
        guard.release().await.unwrap();
    })
    .await;
}
