//! One process is a whole system: a worker does the chores when nobody else does, and leaves them to whoever does.

use std::time::Duration;

use longhaul::{Client, Flow, Missed, Retry, Schedule, Scheduler, Start, Step, StepContext, StepError, Worker};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::{eventually, nothing, with_database, within};

/// As in the first program of the README: no scheduler.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_alone_retries_wakes_sleepers_fires_schedules_and_takes_over_from_the_dead() {
    with_database(|db| async move {
        let client = Client::connect(&db.config).await.unwrap();
        let fails_first = |ctx: StepContext, _: Value| async move {
            if ctx.attempt() == 1 { Err(StepError::retry("not yet")) } else { Ok(ctx.attempt()) }
        };
        let sleeps = |ctx: StepContext, _: Value| async move {
            ctx.sleep("a moment", Duration::from_millis(10)).await?;
            Ok::<_, StepError>(())
        };
        client
            .deploy(
                &Flow::new("order", 1)
                    .step(Step::new("charge", "charge").retry(Retry::fixed(5, Duration::from_millis(300)))),
            )
            .await
            .unwrap();
        client.deploy(&Flow::new("sleeps", 1).step(Step::new("a", "sleeps"))).await.unwrap();
        client.deploy(&Flow::new("tick", 1).step(Step::new("a", "nothing"))).await.unwrap();
        client.schedule(&Schedule::new("seconds", "* * * * * *", "tick").missed(Missed::Skip)).await.unwrap();
        let order = client.start("order", &1).await.unwrap();
        let sleeper = client.start("sleeps", &1).await.unwrap();
        let delayed = Start::new(&1).unwrap().delay(Duration::from_millis(100));
        let delayed = client.start_with("sleeps", delayed).await.unwrap();

        let worker = Worker::builder(&db.config)
            .handler("charge", fails_first)
            .handler("sleeps", sleeps)
            .handler("nothing", nothing)
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));

        assert_eq!(within("the order", order.output::<u32>()).await.unwrap(), 2);
        within("the sleeper", sleeper.output::<()>()).await.unwrap();
        within("the delayed one", delayed.output::<()>()).await.unwrap();
        eventually("a tick has fired", || async {
            db.value::<i64>("select count(*) from longhaul.schedule_tick where outcome = 'started'").await > 0
        })
        .await;
        db.execute("select longhaul.pause_schedule('default', 'seconds')").await;
        stop.cancel();
        within("the shutdown", task).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_whose_time_has_come_says_that_nobody_does_the_chores() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let start = Start::new(&1).unwrap().delay(Duration::from_secs(600));
        let run = client.start_with("one", start).await.unwrap();
        assert!(client.why(run.id(), "a").await.unwrap().contains("sleeps until"));
        db.execute("select longhaul.advance_clock('1 hour')").await;
        let why = client.why(run.id(), "a").await.unwrap();
        assert!(why.contains("nobody does the chores") && why.contains("its time came 30"), "{why}");
        db.spawn_scheduler();
        eventually("it is ready", || async { client.why(run.id(), "a").await.unwrap().contains("is ready") }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_without_chores_leave_them_to_others_and_the_watch_tells_when_they_are_neglected() {
    with_database(|db| async move {
        let worker = db.spawn(db.worker().handler("nothing", nothing));
        eventually("it is registered", || async { db.calls().await.neglected_chores().await.unwrap().workers == 1 })
            .await;
        db.execute("select longhaul.advance_clock('10 seconds')").await;
        let seen = db.calls().await.neglected_chores().await.unwrap();
        assert!(seen.late >= Duration::from_secs(10), "{seen:?}");

        // One that somebody is at is not neglected, however long it takes.
        let mut connection = db.database.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.batch_execute("select from longhaul.chore for update").await.unwrap();
        assert_eq!(db.calls().await.neglected_chores().await.unwrap().late, Duration::ZERO);
        transaction.rollback().await.unwrap();
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_in_stops_when_a_scheduler_is_there() {
    with_database(|db| async move {
        let stand_in = tokio::spawn(Scheduler::new(&db.config).unwrap().while_needed());
        let done = || async { db.calls().await.neglected_chores().await.unwrap().runs };
        eventually("it does chores", || async { done().await > 10 }).await;
        db.spawn_scheduler();
        within("the stand-in", stand_in).await.unwrap().unwrap();
        let before = done().await;
        eventually("the scheduler goes on", || async { done().await > before + 10 }).await;
    })
    .await;
}
