//! Runs go from start to finish.

use std::time::Duration;

use longhaul::{Error, Flow, Start, Step, StepContext, StepError, calls::RunState};

use crate::harness::{eventually, nothing, with_database, within};

async fn double(_: StepContext, number: i64) -> Result<i64, StepError> {
    Ok(number * 2)
}

async fn add_up(ctx: StepContext, number: i64) -> Result<i64, StepError> {
    let left: i64 = ctx.output("left").await?;
    let right: i64 = ctx.output("right").await?;
    Ok(number + left + right)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_passes_through_its_steps_and_gives_the_last_output() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("sum", 1)
            .step(Step::new("left", "double"))
            .step(Step::new("right", "double"))
            .step(Step::new("sum", "add_up").after("left").after("right"));
        client.deploy(&flow).await.unwrap();
        let worker = db.spawn(db.worker().handler("double", double).handler("add_up", add_up));

        let run = client.start("sum", &5).await.unwrap();

        assert_eq!(within("the run", run.output::<i64>()).await.unwrap(), 25);
        assert_eq!(worker.stop().await.settled, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_last_steps_give_an_object_of_their_outputs() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(&Flow::new("two", 1).step(Step::new("x", "double")).step(Step::new("y", "double")))
            .await
            .unwrap();
        let worker = db.spawn(db.worker().handler("double", double));
        let run = client.start("two", &4).await.unwrap();
        let output: serde_json::Value = within("the run", run.output()).await.unwrap();
        assert_eq!(output, serde_json::json!({ "x": 8, "y": 8 }));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_step_waits_for_ten_thousand_predecessors() {
    with_database(|db| async move {
        let client = db.client().await;
        let mut last = Step::new("last", "nothing");
        let mut flow = Flow::new("wide", 1);
        for number in 0..10_000 {
            flow = flow.step(Step::new(format!("s{number}"), "nothing"));
            last = last.after(format!("s{number}"));
        }
        client.deploy(&flow.step(last)).await.unwrap();
        let run = client.start("wide", &()).await.unwrap();
        assert!(client.why(run.id(), "last").await.unwrap().contains("waits for 10000 of its predecessors"));

        let workers = [0, 1].map(|_| {
            db.spawn(db.worker().lease(Duration::from_secs(60)).handler("nothing", nothing).queue("default", 500))
        });
        let ended = within("the run", run.wait(Duration::from_secs(60))).await.unwrap().expect("in time");

        assert_eq!(ended.state, RunState::Completed);
        let last_claimed: bool = db
            .value("select s.started_at >= (select max(ended_at) from longhaul.step where seq < 10000) from longhaul.step s where seq = 10000")
            .await;
        assert!(last_claimed, "the last step was claimed only after all others had ended");
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_with_an_unknown_handler_waits_visibly_until_a_worker_comes_that_knows_it() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("known", 1).step(Step::new("a", "double"))).await.unwrap();
        client.deploy(&Flow::new("unknown", 1).step(Step::new("a", "triple"))).await.unwrap();
        let worker = db.spawn(db.worker().handler("double", double));
        let stranger = client.start("unknown", &1).await.unwrap();

        // The stranger stands before it in the same queue, and is in nobody's way.
        let known = client.start("known", &1).await.unwrap();
        within("the known run", known.output::<i64>()).await.unwrap();

        let why = client.why(stranger.id(), "a").await.unwrap();
        assert!(why.contains("no worker takes handler triple from queue default"), "{why}");
        assert_eq!(db.calls().await.unserved_lanes().await.unwrap(), ["handler triple from queue default (1 ready)"]);

        let triple = |_: StepContext, number: i64| async move { Ok::<_, StepError>(number * 3) };
        let newcomer = db.spawn(db.worker().handler("triple", triple));
        assert_eq!(within("the stranger", stranger.output::<i64>()).await.unwrap(), 3);
        worker.stop().await;
        newcomer.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_is_notified_of_new_work_in_any_of_its_queues() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("mail", 1).step(Step::new("a", "double").queue("mail"))).await.unwrap();
        // It would look by itself only after an hour.
        let worker = db.worker().poll(Duration::from_secs(3600)).queue("default", 1).queue("mail", 1);
        let worker = db.spawn(worker.handler("double", double));
        eventually("it asks to be notified", || async {
            db.value::<i64>("select count(*) from longhaul.listener").await == 2
        })
        .await;

        for number in 0..20 {
            let run = client.start("mail", &number).await.unwrap();
            assert_eq!(within("the run", run.output::<i64>()).await.unwrap(), number * 2);
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_finds_work_whose_transaction_had_looked_for_idle_workers_before() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "double"))).await.unwrap();
        let mut connection = db.database.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        let run = client.start_in(&transaction, "one", Start::new(&4).unwrap()).await.unwrap();
        // It would look by itself only after an hour, and nobody tells it.
        let worker = db.spawn(db.worker().poll(Duration::from_secs(3600)).handler("double", double));
        eventually("it asks to be notified", || async {
            db.value::<i64>("select count(*) from longhaul.listener").await == 1
        })
        .await;
        // Its look after that finds nothing yet.
        tokio::time::sleep(Duration::from_millis(200)).await;
        transaction.commit().await.unwrap();
        assert_eq!(within("the run", client.run(run).output::<i64>()).await.unwrap(), 8);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_does_not_take_notifications_from_an_idle_one() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "double"))).await.unwrap();
        client.deploy(&Flow::new("long", 1).step(Step::new("a", "hangs"))).await.unwrap();
        // Both would look by themselves only after an hour.
        let hangs = |_: StepContext, _: i64| std::future::pending::<Result<i64, StepError>>();
        let busy = db.worker().poll(Duration::from_secs(3600)).grace(Duration::ZERO).queue("default", 1);
        let busy = db.spawn(busy.handler("hangs", hangs).handler("double", double));
        let listeners = || async { db.value::<i64>("select count(*) from longhaul.listener").await };
        eventually("the first asks to be notified", || async { listeners().await == 1 }).await;
        client.start("long", &0).await.unwrap();
        eventually("it is busy, and asks no more", || async { listeners().await == 0 }).await;
        let idle = db.spawn(db.worker().poll(Duration::from_secs(3600)).handler("double", double));
        eventually("the second asks to be notified", || async { listeners().await == 1 }).await;

        for number in 0..20 {
            let run = client.start("one", &number).await.unwrap();
            assert_eq!(within("the run", run.output::<i64>()).await.unwrap(), number * 2);
        }
        idle.stop().await;
        busy.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_notifies_finds_work_by_polling() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "double"))).await.unwrap();
        let worker = db.spawn(db.worker().poll(Duration::from_millis(20)).handler("double", double));
        eventually("it asks to be notified", || async {
            db.value::<i64>("select count(*) from longhaul.listener").await == 1
        })
        .await;
        // As after a crash of the server, which empties this table.
        db.execute("truncate longhaul.listener").await;
        let run = client.start("one", &4).await.unwrap();
        assert_eq!(within("the run", run.output::<i64>()).await.unwrap(), 8);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_do_every_step_once() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "nothing"))).await.unwrap();
        client.start_many("one", 0..5_000).await.unwrap();
        let workers: Vec<_> =
            (0..6).map(|_| db.spawn(db.worker().handler("nothing", nothing).queue("default", 50))).collect();
        db.until_all_completed().await;
        let mut settled = 0;
        for worker in workers {
            let summary = worker.stop().await;
            assert_eq!(summary.lost, 0);
            settled += summary.settled;
        }
        assert_eq!(settled, 5_000);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, 0);
        assert_eq!(db.value::<i32>("select max(attempt) from longhaul.step").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_runs_no_more_steps_at_a_time_than_it_has_slots() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("slow", 1).step(Step::new("a", "slow"))).await.unwrap();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now_in, most_in) = (now.clone(), most.clone());
        let slow = move |_: StepContext, _: i64| {
            let (now, most) = (now_in.clone(), most_in.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, StepError>(())
            }
        };
        client.start_many("slow", 0..100).await.unwrap();
        let worker = db.spawn(db.worker().handler("slow", slow).queue("default", 7));
        db.until_all_completed().await;
        worker.stop().await;
        assert_eq!(most.load(Ordering::SeqCst), 7);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_output_of_a_step_that_is_not_a_predecessor_fails_clearly() {
    with_database(|db| async move {
        let client = db.client().await;
        let peek = |ctx: StepContext, _: i64| async move { ctx.output::<i64>("later").await };
        let flow = Flow::new("peek", 1).step(Step::new("a", "peek")).step(Step::new("later", "double").after("a"));
        client.deploy(&flow).await.unwrap();
        let worker = db.spawn(db.worker().handler("peek", peek).handler("double", double));
        let run = client.start("peek", &1).await.unwrap();
        let error = within("the run", run.output::<i64>()).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.contains("must name it in `after`")), "{error}");
        worker.stop().await;
    })
    .await;
}
