//! A step's row is written once, when the step has ended: what is shown of steps that have none, what joins count, and what a
//! retry takes back.

use serde_json::json;

use super::{claim, claim_one, complete, deploy, fail, start, state, worker};
use crate::harness::{TestDb, with_database};

/// Steps of a run as the view shows them, by number: name, state and for how many it waits.
async fn shown(db: &TestDb, run: uuid::Uuid) -> String {
    db.value(&format!(
        "select string_agg(format('%s %s %s', name, state, blockers), ', ' order by seq) from longhaul.steps where run_id = '{run}'"
    ))
    .await
}

/// Rows of steps that have ended, and of joins that are counted.
async fn written(db: &TestDb) -> (i64, i64) {
    (
        db.value("select count(*) from longhaul.step").await,
        db.value("select coalesce(sum(blockers), 0)::bigint from longhaul.blocked").await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_a_row_when_it_has_ended_and_no_row_ever_changes() {
    with_database(|db| async move {
        let steps = json!([
            { "name": "a", "handler": "h" },
            { "name": "b", "handler": "h" },
            { "name": "c", "handler": "h", "after": ["a", "b"] },
            { "name": "d", "handler": "h", "after": ["c"], "for_each": "$.input", "input": "$.item" },
            { "name": "e", "handler": "h", "after": ["d"], "concurrency": { "name": "k", "limit": 1 } },
        ]);
        deploy(&db, "f", steps, json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!([1, 2])).await;
        assert_eq!(written(&db).await, (0, 0), "a start writes what begins, and nothing else");
        assert_eq!(shown(&db, run).await, "a ready 0, b ready 0, c blocked 2, d blocked 1, e blocked 1");

        let first: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        complete(&db, worker, &first[..1]).await;
        assert_eq!(written(&db).await, (1, 1));
        assert!(shown(&db, run).await.contains("c blocked 1, d blocked 1"));
        db.assert_rooms_are_sound().await;
        // A counter that says something else is found.
        let broken = db.database.connection().await.unwrap();
        broken.batch_execute("begin; update longhaul.blocked set blockers = 2").await.unwrap();
        let found = broken.query_one("select count(*) from longhaul.room_violations", &[]).await.unwrap();
        assert_eq!(found.get::<_, i64>(0), 1);
        broken.batch_execute("rollback").await.unwrap();

        complete(&db, worker, &first[1..]).await;
        assert_eq!(written(&db).await, (2, 0));
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        let items: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        assert_eq!(db.value::<i64>("select count(*) from longhaul.own_step").await, 2);
        complete(&db, worker, &items).await;
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        assert_eq!(state(&db, run).await, "completed");
        assert_eq!(written(&db).await, (7, 0));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.own_step").await, 0);
        // The version that a row was inserted by, and none that it was updated by.
        assert_eq!(db.value::<i64>("select count(*) from longhaul.step where xmax <> 0").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_not_begun_when_its_run_ended_is_cancelled_and_begins_after_a_retry() {
    with_database(|db| async move {
        let steps = json!([
            { "name": "a", "handler": "h" },
            { "name": "b", "handler": "h" },
            { "name": "c", "handler": "h", "after": ["a", "b"] },
            { "name": "d", "handler": "h", "after": ["c"] },
        ]);
        deploy(&db, "f", steps, json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!(1)).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        complete(&db, worker, &keys[..1]).await;
        fail(&db, worker, &keys[1..]).await;
        assert_eq!(written(&db).await, (2, 0), "nothing is written for c and d");
        assert!(shown(&db, run).await.ends_with("c cancelled 0, d cancelled 0"), "{}", shown(&db, run).await);
        let ended = "select count(*) from longhaul.steps s join longhaul.runs r on r.id = s.run_id where s.name in ('c', 'd') and s.ended_at = r.ended_at";
        assert_eq!(db.value::<i64>(ended).await, 2);

        db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
        assert_eq!(written(&db).await, (1, 1));
        assert!(shown(&db, run).await.ends_with("c blocked 1, d blocked 1"), "{}", shown(&db, run).await);
        db.assert_rooms_are_sound().await;
        for _ in 0..3 {
            let key = claim_one(&db, worker).await;
            complete(&db, worker, &[key]).await;
        }
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}
