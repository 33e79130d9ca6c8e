//! No recursion over data, and no call without an end.

use serde_json::{Value, json};

use super::{chores, deploy, start, state};
use crate::harness::with_database;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_signals_that_are_there_already_pass_a_thousand_waits() {
    with_database(|db| async move {
        let steps: Vec<Value> = (0..1000)
            .map(|n| {
                let after: Vec<String> = (n > 0).then(|| format!("s{}", n - 1)).into_iter().collect();
                json!({ "name": format!("s{n}"), "wait_signal": { "topic": "t" }, "after": after })
            })
            .collect();
        deploy(&db, "f", json!(steps), json!({})).await;
        let run: uuid::Uuid = db.value("select longhaul.create_run('f')").await;
        db.execute(&format!("select longhaul.signal_run('default', '{run}', 't') from generate_series(1, 1000)")).await;
        db.execute(&format!("select longhaul.start_pending_run('default', '{run}')")).await;
        chores(&db).await;
        assert_eq!(state(&db, run).await, "completed");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.signal where consumed_at is null").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_children_that_end_at_once_end_their_fan_out() {
    with_database(|db| async move {
        deploy(&db, "noop", json!([{ "name": "a", "handler": "h", "when": "1 == 2" }]), json!({})).await;
        deploy(&db, "f", json!([{ "name": "each", "flow": "noop", "for_each": "$.input" }]), json!({})).await;
        let items: Vec<u32> = (0..2000).collect();
        let run = start(&db, "f", json!(items)).await;
        chores(&db).await;
        assert_eq!(state(&db, run).await, "completed");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 2001);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_skipped_steps_is_passed_in_bounded_calls() {
    with_database(|db| async move {
        let steps: Vec<Value> = (0..3000)
            .map(|n| {
                let after: Vec<String> = (n > 0).then(|| format!("s{}", n - 1)).into_iter().collect();
                json!({ "name": format!("s{n}"), "handler": "h", "when": "1 == 2", "after": after })
            })
            .collect();
        deploy(&db, "f", json!(steps), json!({})).await;
        let run = start(&db, "f", json!({})).await;
        assert_eq!(state(&db, run).await, "running", "what is left is a chore's");
        chores(&db).await;
        assert_eq!(state(&db, run).await, "completed");

        // A stop in between ends all of it.
        let run = start(&db, "f", json!({})).await;
        db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await;
        chores(&db).await;
        assert_eq!(state(&db, run).await, "cancelled");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.notice").await, 0);
        db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
        chores(&db).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_completion_for_two_thousand_waiters_is_several_bounded_calls() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "wait_signal": { "topic": "t", "key": "$.input" } }]), json!({})).await;
        db.client().await.start_many("f", vec!["k"; 2000]).await.unwrap();
        db.execute("select longhaul.complete_external('default', 't', 'k')").await;
        let done = "select count(*) from longhaul.run where state = 'completed'";
        assert_eq!(db.value::<i64>(done).await, 500);
        chores(&db).await;
        assert_eq!(db.value::<i64>(done).await, 2000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_of_a_thousand_children_is_a_bounded_call() {
    with_database(|db| async move {
        deploy(&db, "kid", json!([{ "name": "k", "handler": "k" }]), json!({})).await;
        deploy(&db, "f", json!([{ "name": "each", "flow": "kid", "for_each": "$.input", "window": 1000 }]), json!({}))
            .await;
        let items: Vec<u32> = (0..1000).collect();
        let run = start(&db, "f", json!(items)).await;
        db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await;
        assert_eq!(state(&db, run).await, "cancelled");
        let live = "select count(*) from longhaul.run where state = 'running'";
        assert_eq!(db.value::<i64>(live).await, 900);
        chores(&db).await;
        assert_eq!(db.value::<i64>(live).await, 0);
    })
    .await;
}
