//! What outside providers report of work that was handed to them.

use longhaul::calls::NewWait;
use serde_json::json;

use super::{chores, claim, claim_one, deploy, pass, start, state, suspend, wait, worker};
use crate::harness::with_database;

fn label() -> Vec<NewWait> {
    vec![NewWait { topic: Some("label".into()), key: Some("order-7".into()), ..wait("external", "0") }]
}

const RETRIED: &str = r#"[{"name": "a", "handler": "h", "retry": {"attempts": 3, "backoff": "1s"}}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_failure_is_one_attempts_and_a_later_success_counts() {
    with_database(|db| async move {
        deploy(&db, "f", serde_json::from_str(RETRIED).unwrap(), json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, label()).await;
        let failed =
            "select longhaul.complete_external('default', 'label', 'order-7', '{\"message\": \"busy\"}', true)";
        db.execute(failed).await;
        // Delivered once more, while the step waits for its next attempt.
        db.execute(failed).await;
        pass(&db, "1 minute").await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, label()).await;
        chores(&db).await;
        assert_eq!(claim(&db, worker).await.len(), 0, "the second attempt does not meet the failure of the first");
        db.execute("select longhaul.complete_external('default', 'label', 'order-7', '{\"pages\": 1}')").await;
        assert_eq!(state(&db, run).await, "completed");
        // Success stands, whatever comes after it.
        db.execute(failed).await;
        let late = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, label()).await;
        assert_eq!(state(&db, late).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_comes_before_the_wait_is_kept_for_one_attempt() {
    with_database(|db| async move {
        deploy(&db, "f", serde_json::from_str(RETRIED).unwrap(), json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        db.execute("select longhaul.complete_external('default', 'label', 'order-7', '1', true)").await;
        suspend(&db, worker, key, label()).await;
        pass(&db, "1 minute").await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, label()).await;
        assert_eq!(state(&db, run).await, "running");
        // The same words from the provider about the second attempt.
        db.execute("select longhaul.complete_external('default', 'label', 'order-7', '1', true)").await;
        pass(&db, "1 minute").await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, label()).await;
        db.execute(
            "select longhaul.complete_external('default', 'label', 'order-7', '1', true, p_idempotency_key => 'third')",
        )
        .await;
        assert_eq!(state(&db, run).await, "failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_swallows_nothing_that_is_sent_after_it() {
    with_database(|db| async move {
        deploy(&db, "f", serde_json::from_str(RETRIED).unwrap(), json!({})).await;
        let worker = worker(&db).await;
        db.execute(
            "select longhaul.complete_external('default', 'label', 'order-7', p_keep => '1 second');
             select longhaul.send_signal('default', 's', 'k', '1', 'once', '1 second')",
        )
        .await;
        db.execute("select longhaul.advance_clock('2 seconds')").await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, label()).await;
        db.execute(
            "select longhaul.complete_external('default', 'label', 'order-7');
             select longhaul.send_signal('default', 's', 'k', '2', 'once')",
        )
        .await;
        assert_eq!(state(&db, run).await, "completed");
        assert_eq!(
            db.value::<i64>("select count(*) from longhaul.signal where topic = 's' and payload = '2'").await,
            1
        );
    })
    .await;
}
