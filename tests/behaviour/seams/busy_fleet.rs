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
                .handler("held", held)
                .handler("nothing", nothing),
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

/// Functions that have begun pass the gate and save, or start children, while callers hold their runs; twenty others do the same
/// and are done meanwhile.
async fn functions_go_on_beside_held_ones(held: usize, holds: &'static str, durable: fn(StepContext) -> Durable) {
    with_database(|db| async move {
        db.deploy_single("kid", Step::new("a", "nothing")).await;
        db.deploy_single("held", Step::new("a", "held")).await;
        db.deploy_single("free", Step::new("a", "free")).await;
        let client = db.client().await;
        db.spawn_scheduler();
        let gate = Arc::new(Semaphore::new(0));
        let passed = Arc::clone(&gate);
        let gated = move |ctx: StepContext, _: Value| {
            let gate = Arc::clone(&passed);
            async move {
                gate.acquire().await.expect("open").forget();
                durable(ctx).await
            }
        };
        let builder = db.worker().lease(Duration::from_secs(60)).queue("default", 64);
        let builder = builder.handler("held", gated).handler("nothing", nothing);
        let worker = db.spawn(builder.handler("free", move |ctx: StepContext, _: Value| durable(ctx)));
        let runs = client.start_many("held", 0..held as i64).await.unwrap().ids();
        let leases = "select count(*) from longhaul.lease";
        eventually("they run", || async { db.value::<i64>(leases).await == held as i64 }).await;
        let mut callers = Vec::new();
        for run in &runs {
            callers.push(open(&db, &format!("select {holds}('default', '{run}')")).await);
        }
        gate.add_permits(held);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let free = client.start_many("free", 0..20).await.unwrap().ids();
        let done = "select count(*) from longhaul.runs where flow = 'free' and state = 'completed'";
        eventually("all others are done", || async { db.value::<i64>(done).await == free.len() as i64 }).await;
        assert_eq!(db.value::<i64>(leases).await, held as i64, "each still has its lease");
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        assert_eq!(db.value::<i64>(waiting).await, 0, "nobody waits for the callers");
        for caller in callers {
            caller.batch_execute("rollback").await.unwrap();
        }
        for run in runs {
            within("the run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().unwrap();
            assert_eq!(state(&db, run).await, "completed");
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, 0, "no attempt was for nothing");
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}

type Durable = futures::future::BoxFuture<'static, Result<(), StepError>>;

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_saved_while_callers_have_stopped_other_runs_and_not_committed() {
    functions_go_on_beside_held_ones(3, "longhaul.stop_run", |ctx| {
        Box::pin(async move { ctx.checkpoint("a", || async { Ok(()) }).await })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_started_while_callers_hold_the_runs_of_more_functions_than_there_are_connections() {
    functions_go_on_beside_held_ones(10, "longhaul.pause_run", |ctx| {
        Box::pin(async move { ctx.start_child("kid", &1).await.map(drop) })
    })
    .await;
}
