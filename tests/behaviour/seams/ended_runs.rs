//! A run that ends within a call takes all of its steps along, whatever the rest of the call does.

use serde_json::json;

use super::{chores, claim, claim_one, complete, deploy, pass, start, state, worker};
use crate::harness::{TestDb, with_database};

async fn open_steps(db: &TestDb, run: uuid::Uuid) -> i32 {
    db.value(&format!("select open_steps from longhaul.run where id = '{run}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_after_one_that_failed_its_run_enters_no_room() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }, { "name": "b", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for second in [r#"{"kind": "sleep", "path": "0", "wait_ms": 1}"#, r#"{"kind": "new", "input": 1}"#, r#"{"kind": "odd"}"#] {
            let run = start(&db, "f", json!({})).await;
            assert_eq!(claim(&db, worker).await.len(), 2);
            let refusals: String = db
                .value(&format!(
                    "select string_agg(left(refusal, 10), ' ' order by seq)
                     from longhaul.suspend({worker}, array['{run}', '{run}']::uuid[], '{{0,1}}', '{{1,1}}', array['[{{\"kind\": \"odd\"}}]', '[{second}]']::jsonb[])"
                ))
                .await;
            assert_eq!(refusals, "invalid: ' lease_lost");
            assert_eq!(state(&db, run).await, "failed");
            pass(&db, "1 second").await;
            assert!(claim(&db, worker).await.is_empty(), "nothing of a run that has ended");
            assert_eq!(state(&db, run).await, "failed");
            assert_eq!(open_steps(&db, run).await, 0);
            let outcome: String =
                db.value(&format!("select outcome::text from longhaul.attempt where run_id = '{run}' and seq = 1")).await;
            assert_eq!(outcome, "cancelled");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lets_a_step_go_which_fails_the_run_begins_no_other() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([
                { "name": "asks", "handler": "h" },
                { "name": "works", "handler": "h" },
                { "name": "fails", "handler": "h", "after": ["works"], "when": "$.run.metadata.known" }
            ]),
            json!({}),
        )
        .await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        let (asks, works) = if keys[0].step.seq == 0 { (keys[0], keys[1]) } else { (keys[1], keys[0]) };
        super::suspend(&db, worker, asks, vec![super::wait("decision", "0")]).await;
        complete(&db, worker, &[works]).await;
        assert_eq!(state(&db, run).await, "paused");
        db.execute(&format!("select longhaul.decide('default', '{run}', 'asks', 'approve')")).await;
        assert_eq!(state(&db, run).await, "failed", "the condition is neither true nor false");
        chores(&db).await;
        assert!(claim(&db, worker).await.is_empty());
        assert_eq!(open_steps(&db, run).await, 0);

        // The decision was made, and stays made.
        db.execute(&format!("select longhaul.annotate_run('default', '{run}', '{{\"known\": false}}')")).await;
        db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
        assert_eq!(
            db.value::<String>(&format!("select value ->> 'choice' from longhaul.history('{run}', 0)")).await,
            "approve"
        );
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}
