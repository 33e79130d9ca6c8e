//! Fan-outs of runs that failed and are retried.

use serde_json::{Value, json};

use super::{claim, claim_one, complete, deploy, fail, start, state, worker};
use crate::harness::with_database;

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_with_a_fan_out_whose_last_items_ended_with_the_run() {
    with_database(|db| async move {
        for items in [1, 3] {
            let flow = format!("f{items}");
            deploy(
                &db,
                &flow,
                json!([
                    { "name": "first", "handler": "h" },
                    { "name": "second", "handler": "h", "after": ["first"], "when": "$.run.metadata.known" },
                    { "name": "each", "handler": "h", "for_each": "$.input", "window": 1 },
                    { "name": "last", "handler": "h", "after": ["each"] }
                ]),
                json!({}),
            )
            .await;
            let worker = worker(&db).await;
            let run = start(&db, &flow, json!(vec![0; items])).await;
            let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
            assert_eq!(keys.len(), 2);
            complete(&db, worker, &keys).await;
            assert_eq!(state(&db, run).await, "failed");
            db.execute(&format!("select longhaul.annotate_run('default', '{run}', '{{\"known\": false}}')")).await;
            db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
            for _ in 1..items {
                let key = claim_one(&db, worker).await;
                assert!(key.step.seq >= 32768);
                complete(&db, worker, &[key]).await;
            }
            let key = claim_one(&db, worker).await;
            assert_eq!(key.step.seq, 3);
            complete(&db, worker, &[key]).await;
            assert_eq!(state(&db, run).await, "completed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_item_that_may_fail_and_a_step_that_fails_the_run_leave_a_fan_out_that_can_be_retried() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([
                { "name": "first", "handler": "h" },
                { "name": "each", "handler": "h", "for_each": "$.input", "window": 1, "on_failure": "continue" }
            ]),
            json!({}),
        )
        .await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!([0, 1])).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        fail(&db, worker, &keys).await;
        assert_eq!(state(&db, run).await, "failed");
        db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        assert_eq!(keys.len(), 2, "the step, and the second item");
        complete(&db, worker, &keys).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_whose_data_do_not_fit_is_not_given_to_its_handler_as_it_is_by_a_retry() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([{ "name": "each", "handler": "h", "for_each": "$.input",
                     "input": { "at": "$.item", "old": "$.item ? (@.datetime() < $.run.metadata.now.datetime())" } }]),
            json!({}),
        )
        .await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!([])).await;
        assert_eq!(state(&db, run).await, "completed");
        let run: uuid::Uuid = db
            .value("select longhaul.create_run('f', '[\"2023-01-01T00:00:00\"]', p_metadata => '{\"now\": \"2024-01-01T00:00:00+00:00\"}')")
            .await;
        db.execute(&format!("select longhaul.start_pending_run('default', '{run}')")).await;
        assert_eq!(state(&db, run).await, "failed", "a time with a zone and one without are not compared");
        db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
        assert!(claim(&db, worker).await.is_empty());
        assert_eq!(state(&db, run).await, "failed", "they still do not fit");
        db.execute(&format!("select longhaul.annotate_run('default', '{run}', '{{\"now\": \"2024-01-01T00:00:00\"}}')")).await;
        db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
        let claimed = claim(&db, worker).await;
        let input: Value = serde_json::from_str(claimed[0].input.as_str()).unwrap();
        assert_eq!(input, json!({ "at": "2023-01-01T00:00:00", "old": ["2023-01-01T00:00:00"] }));
        complete(&db, worker, &[claimed[0].key]).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}
