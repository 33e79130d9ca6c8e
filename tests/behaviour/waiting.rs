//! Who waits for whom: reads for nobody, one run not for another, and nothing in the database for a handler.

use std::time::Duration;

use longhaul::{Flow, Payload, Step, StepContext, StepError, calls::RunFilter};
use serde_json::Value;

use crate::{
    harness::{eventually, with_database, within},
    starting::play_worker,
};

#[tokio::test(flavor = "multi_thread")]
async fn reads_wait_for_no_writer() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(&Flow::new("two", 1).step(Step::new("a", "h")).step(Step::new("b", "h").after("a")))
            .await
            .unwrap();
        let run = client.start("two", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        db.calls().await.claim(worker, &["default"], &[1]).await.unwrap();

        // Somebody holds every row, and has changed them.
        let mut connection = db.database.connection().await.unwrap();
        let writer = connection.transaction().await.unwrap();
        for table in ["run", "step", "lease", "worker", "flow", "queue"] {
            writer.batch_execute(&format!("select from longhaul.{table} for update")).await.unwrap();
        }
        writer
            .batch_execute("update longhaul.run set revision = revision + 1; delete from longhaul.lease")
            .await
            .unwrap();

        let reads = async {
            run.get().await.unwrap();
            client.list(&RunFilter::default()).await.unwrap();
            client.steps(run.id()).await.unwrap();
            client.attempts(run.id()).await.unwrap();
            assert!(client.why(run.id(), "a").await.unwrap().contains("is running"));
            assert!(client.why(run.id(), "b").await.unwrap().contains("is blocked"));
            let calls = db.calls().await;
            calls.figures().await.unwrap();
            calls.room_violations().await.unwrap();
            for view in ["runs", "steps", "queues", "workers", "leases"] {
                db.value::<i64>(&format!("select count(*) from longhaul.{view}")).await;
            }
        };
        within("the reads", reads).await;
        writer.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_does_not_wait_for_another() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let (locked, free) = (client.start("one", &1).await.unwrap(), client.start("one", &2).await.unwrap());
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let claimed = calls.claim(worker, &["default"], &[2]).await.unwrap();
        let key = claimed.iter().find(|c| c.key.step.run_id == free.id()).unwrap().key;

        let mut connection = db.database.connection().await.unwrap();
        let writer = connection.transaction().await.unwrap();
        for sql in [
            "select from longhaul.run where id = $1 for update",
            "select from longhaul.lease where run_id = $1 for update",
        ] {
            writer.execute(sql, &[&locked.id()]).await.unwrap();
        }
        let others = async {
            assert!(calls.complete(worker, &[(key, Payload::null())]).await.unwrap().is_empty());
            let next = client.start("one", &3).await.unwrap();
            let claimed = calls.claim(worker, &["default"], &[1]).await.unwrap();
            assert_eq!(claimed[0].key.step.run_id, next.id());
            calls.heartbeat(worker, [claimed[0].key].into_iter()).await.unwrap();
            assert!(calls.complete(worker, &[(claimed[0].key, Payload::null())]).await.unwrap().is_empty());
        };
        within("the other runs", others).await;
        writer.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_in_the_database_while_handlers_run() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "hangs")).await;
        let hangs = |_: StepContext, _: Value| std::future::pending::<Result<(), StepError>>();
        // Fifty handlers run, and the worker's pool has two connections.
        let mut config = db.config.clone().pool_size(2);
        config.connection.postgres.application_name("the worker");
        let worker = longhaul::Worker::builder(&config).grace(Duration::ZERO).handler("hangs", hangs);
        let worker = db.spawn(worker.queue("default", 50));
        db.client().await.start_many("one", 0..50).await.unwrap();
        eventually("all run", || async { db.value::<i64>("select count(*) from longhaul.lease").await == 50 }).await;

        let mine = "from pg_stat_activity where application_name = 'the worker' and datname = current_database()";
        eventually("none of its connections is in a transaction", || async {
            db.value::<i64>(&format!("select count(*) {mine} and (state <> 'idle' or backend_xid is not null)")).await == 0
        })
        .await;
        let locks = format!("select count(*) from pg_locks where pid in (select pid {mine}) and locktype in ('relation', 'tuple', 'transactionid', 'advisory')");
        eventually("it holds no lock", || async { db.value::<i64>(&locks).await == 0 }).await;
        let connections = db.value::<i64>(&format!("select count(*) {mine}")).await;
        assert!(connections <= 3, "{connections} connections: two of the pool, and one for notifications");
        worker.stop().await;
    })
    .await;
}
