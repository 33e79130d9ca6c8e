//! A working fleet beside callers who keep transactions open.

use std::{sync::Arc, time::Duration};

use longhaul::{Step, StepContext, StepError};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{open, state};
use crate::harness::{eventually, nothing, with_database, within};

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_runs_are_done_while_callers_hold_ten_that_have_ended() {
    with_database(|db| async move {
        db.deploy_single("held", Step::new("a", "held")).await;
        db.deploy_single("free", Step::new("a", "nothing")).await;
        let client = db.client().await;
        db.spawn_scheduler();
        let gate = Arc::new(Semaphore::new(0));
        let passed = Arc::clone(&gate);
        let held = move |_: StepContext, _: Value| {
            let gate = Arc::clone(&passed);
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, StepError>(())
            }
        };
        let worker = db.spawn(
            db.worker()
                .lease(Duration::from_secs(60))
                .queue("default", 64)
                .unwrap()
                .handler("held", held)
                .unwrap()
                .handler("nothing", nothing)
                .unwrap(),
        );
        let runs = client.start_many("held", 0..10).await.unwrap().ids();
        eventually("they run", || async { db.value::<i64>("select count(*) from longhaul.lease").await == 10 }).await;
        let mut callers = Vec::new();
        for run in &runs {
            callers.push(open(&db, &format!("select annotate_run('default', '{run}', '{{}}')")).await);
        }
        // All of them end now, and none can be completed.
        gate.add_permits(10);
        let free = client.start_many("free", 0..2000).await.unwrap().ids();
        eventually("all others are done", || async {
            db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await == free.len() as i64
        })
        .await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 10, "each still has its lease");
        for caller in callers {
            caller.batch_execute("commit").await.unwrap();
        }
        for run in runs {
            within("the run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().unwrap();
            assert_eq!(state(&db, run).await, "completed");
        }
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}
