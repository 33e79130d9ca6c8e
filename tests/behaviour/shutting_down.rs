//! Graceful shutdown within one process.

use std::time::Duration;

use longhaul::{Retry, Step, StepContext, StepError};
use serde_json::Value;

use crate::harness::{eventually, with_database, within};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_runs_twice_because_of_a_shutdown() {
    with_database(|db| async move {
        db.deploy_single("w", Step::new("a", "work").retry(Retry::never())).await;
        let client = db.client().await;
        client.start_many("w", 0..400).await.unwrap();
        let work = |_: StepContext, _: Value| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, StepError>(())
        };
        // Workers come and go while there is work.
        while db.value::<i64>("select count(*) from longhaul.run where state = 'running'").await > 0 {
            let worker =
                db.spawn(db.worker().grace(Duration::from_millis(15)).handler("work", work).queue("default", 40));
            let before: i64 = db.value("select count(*) from longhaul.step where outcome = 'completed'").await;
            eventually("it has done something, or nothing is left", || async {
                db.value::<i64>("select count(*) from longhaul.step where outcome = 'completed'").await > before
                    || db.value::<i64>("select count(*) from longhaul.run where state = 'running'").await == 0
            })
            .await;
            assert_eq!(within("the shutdown", worker.stop()).await.lost, 0);
            assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 0, "it leaves nothing behind");
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 400);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt where outcome <> 'released'").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_work_stops_at_once() {
    with_database(|db| async move {
        let worker = db.spawn(db.worker().handler("x", |_: StepContext, (): ()| async { Ok::<_, StepError>(()) }));
        eventually("it is registered", || async {
            db.value::<i64>("select count(*) from longhaul.listener").await == 1
        })
        .await;
        within("the shutdown", worker.stop()).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.listener").await, 0);
    })
    .await;
}
