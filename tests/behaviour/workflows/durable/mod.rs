//! Durable functions: resumed after anything, at the first thing that was not done.

mod fencing;
mod surviving;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{Flow, Signalled, Step, StepContext, StepError, branch, calls::StepState};
use serde_json::{Value, json};

use super::{Effects, ended, input, simple_worker, single, start, state_of};
use crate::harness::{TestDb, eventually, with_database, within};

fn worker(
    db: &TestDb,
    name: &str,
    function: impl Fn(StepContext, Value) -> futures::future::BoxFuture<'static, Result<Value, StepError>>
    + Send
    + Sync
    + 'static,
) -> longhaul::WorkerBuilder {
    simple_worker(db, &Effects::default()).handler(name, function)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_before_a_failure_is_not_done_again() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let effects = Effects::default();
        let noted = effects.clone();
        let function = move |ctx: StepContext, _: Value| -> futures::future::BoxFuture<'static, _> {
            let noted = noted.clone();
            Box::pin(async move {
                let first: i64 = ctx
                    .checkpoint("first", || async {
                        noted.add("first");
                        Ok(20)
                    })
                    .await?;
                let now = ctx.now().await?;
                let (uuid, random) = (ctx.uuid().await?, ctx.random().await?);
                noted.add(format!("{now} {uuid} {random}"));
                let second: i64 = ctx
                    .checkpoint("second", || async {
                        noted.add("second");
                        if ctx.attempt() == 1 { Err(StepError::retry("not yet")) } else { Ok(22) }
                    })
                    .await?;
                assert!((0.0..1.0).contains(&random));
                Ok(json!(first + second))
            })
        };
        let worker = db.spawn(worker(&db, "function", function));
        let run = start(&client, &single("f", "function"), &input()).await;
        assert_eq!(within("the output", run.output::<i64>()).await.unwrap(), 42);
        let all = effects.all();
        assert_eq!((all[0].as_str(), all[2].as_str(), all[4].as_str()), ("first", "second", "second"));
        assert_eq!(all[1], all[3], "time, UUID and random number are the same in every attempt");
        let timeline = run.timeline().await.unwrap();
        assert!(timeline.iter().any(|e| e.kind == "checkpoint step"), "{timeline:?}");

        // Without checkpoints everything is done again.
        let flow = Flow { checkpoints: Some(false), name: "g".into(), ..single("g", "function") };
        let run = start(&client, &flow, &input()).await;
        within("the output", run.output::<i64>()).await.unwrap();
        assert_eq!(effects.count("first"), 3);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_sleep_holds_no_slot_and_survives_restarts() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let function = |ctx: StepContext, _: Value| -> futures::future::BoxFuture<'static, _> {
            Box::pin(async move {
                ctx.sleep("a month", Duration::from_secs(30 * 86_400)).await?;
                Ok(json!(ctx.attempt()))
            })
        };
        let first = db.spawn(worker(&db, "function", function));
        let run = start(&client, &single("f", "function"), &input()).await;
        eventually("it sleeps", || async { state_of(&client, &run, "a").await == StepState::Waiting }).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 0);
        let until = client.steps(run.id()).await.unwrap()[0].fire_at.unwrap();
        first.stop().await;
        db.execute("select longhaul.advance_clock('29 days')").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(client.steps(run.id()).await.unwrap()[0].fire_at, Some(until));
        let second = db.spawn(worker(&db, "function", function));
        db.execute("select longhaul.advance_clock('25 hours')").await;
        assert_eq!(within("the output", run.output::<u32>()).await.unwrap(), 1, "and it consumed no attempt");
        second.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_timeouts_children_and_errors_come_from_the_history() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let function = |ctx: StepContext, _: Value| -> futures::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let name: String = ctx.signal("name").await?;
                let none = ctx.signal_within::<Value>("never", Duration::from_millis(50)).await?;
                let doubled: i64 = ctx.child("child", &21).await?;
                let failed = ctx.child::<Value>("failing", &1).await.unwrap_err();
                let unknown = ctx.child::<Value>("unknown", &1).await.unwrap_err();
                let detached = ctx.start_child("child", &1).await?;
                Ok(json!([
                    name,
                    none == Signalled::TimedOut,
                    doubled,
                    failed.error_code(),
                    unknown.to_string(),
                    detached
                ]))
            })
        };
        let double = |_: StepContext, n: i64| async move { Ok::<_, StepError>(n * 2) };
        let worker = db.spawn(worker(&db, "function", function).handler("double", double));
        db.deploy_single("child", Step::new("a", "double")).await;
        db.deploy_single("failing", Step::new("a", "fail")).await;
        let run = start(&client, &single("f", "function"), &input()).await;
        run.signal("name", &"Miller").await.unwrap();
        let output: Value = within("the output", run.output()).await.unwrap();
        assert_eq!(
            (&output[0], &output[1], &output[2], &output[3]),
            (&json!("Miller"), &json!(true), &json!(42), &json!("hopeless"))
        );
        assert!(output[4].as_str().unwrap().contains("there is no flow unknown"), "{output}");
        let detached: uuid::Uuid = output[5].as_str().unwrap().parse().unwrap();
        ended(&client.run(detached)).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_run_at_once_and_races_have_one_winner_for_ever() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let effects = Effects::default();
        let noted = effects.clone();
        let function = move |ctx: StepContext, _: Value| -> futures::future::BoxFuture<'static, _> {
            let noted = noted.clone();
            Box::pin(async move {
                let branches = (0..5_i64).map(|n| {
                    let noted = noted.clone();
                    branch(move |ctx| async move {
                        ctx.sleep("nap", Duration::from_millis(20 * (5 - n.unsigned_abs()))).await?;
                        ctx.checkpoint("note", || async {
                            noted.add(format!("branch {n}"));
                            Ok(n)
                        })
                        .await
                    })
                });
                let all = ctx.all(branches).await?;
                let winner = ctx
                    .race([
                        branch(|ctx| async move { ctx.signal::<String>("word").await }),
                        branch(|ctx| async move {
                            ctx.sleep("patience", Duration::from_millis(200)).await?;
                            Ok("nobody".to_owned())
                        }),
                        branch(|ctx| async move { ctx.child::<String>("slow", &1).await }),
                    ])
                    .await?;
                ctx.sleep("after", Duration::from_millis(10)).await?;
                Ok(json!([all, winner]))
            })
        };
        let worker = db.spawn(worker(&db, "function", function));
        db.deploy_single("slow", Step::new("a", "nobody")).await;
        client.deploy(&single("f", "function")).await.unwrap();
        let (answered, silent) = (client.start("f", &1).await.unwrap(), client.start("f", &2).await.unwrap());
        answered.signal("word", &"hello").await.unwrap();
        let output: Value = within("the output", answered.output()).await.unwrap();
        assert_eq!(output, json!([[0, 1, 2, 3, 4], "hello"]));
        let output: Value = within("the output", silent.output()).await.unwrap();
        assert_eq!(output[1], "nobody");
        for n in 0..5 {
            assert_eq!(effects.count(&format!("branch {n}")), 2, "once in each run");
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_match_its_history_is_reported_and_patches_make_it_match() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        // The code of the function changes under live runs.
        let version = Arc::new(AtomicUsize::new(1));
        let present = version.clone();
        let function = move |ctx: StepContext, _: Value| -> futures::future::BoxFuture<'static, _> {
            let version = present.load(Ordering::SeqCst);
            Box::pin(async move {
                match version {
                    2 => ctx.checkpoint("renamed", || async { Ok(()) }).await?,
                    3 if ctx.patched("new-check").await? => ctx.checkpoint("check", || async { Ok(()) }).await?,
                    _ => {}
                }
                if version != 2 {
                    ctx.checkpoint("first", || async { Ok(()) }).await?;
                }
                if version == 4 {
                    return Ok(json!("short"));
                }
                ctx.signal::<Value>("go").await?;
                Ok(json!(version))
            })
        };
        let worker = db.spawn(worker(&db, "function", function));
        let begun = |n: usize| {
            let (client, version) = (client.clone(), version.clone());
            async move {
                version.store(n, Ordering::SeqCst);
                let run = start(&client, &single("f", "function"), &input()).await;
                eventually("it waits", || async { state_of(&client, &run, "a").await == StepState::Waiting }).await;
                run
            }
        };
        let run = begun(1).await;
        version.store(2, Ordering::SeqCst);
        run.signal("go", &1).await.unwrap();
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert_eq!(error["code"], "history_mismatch");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("the history has step \"first\", but the code has step \"renamed\""), "{message}");
        assert_eq!(client.attempts(run.id()).await.unwrap().len(), 2, "it is not retried in vain");
        // With the right code it goes on.
        version.store(3, Ordering::SeqCst);
        run.retry().await.unwrap();
        assert_eq!(within("the output", run.output::<i64>()).await.unwrap(), 3);
        let new = begun(3).await;
        new.signal("go", &1).await.unwrap();
        within("the output", new.output::<i64>()).await.unwrap();
        let count = |run: &longhaul::RunHandle| {
            format!("select count(*) from longhaul.checkpoint where run_id = '{}' and name = 'check'", run.id())
        };
        assert_eq!(
            (db.value::<i64>(&count(&run)).await, db.value::<i64>(&count(&new)).await),
            (0, 1),
            "only new runs are patched"
        );

        let run = begun(1).await;
        version.store(4, Ordering::SeqCst);
        run.signal("go", &1).await.unwrap();
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert!(error["message"].as_str().unwrap().contains("but the code has the end of the function"), "{error}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_can_go_on_for_ever_with_a_bounded_history() {
    with_database(|db| async move {
        let client = db.client().await;
        db.execute("select longhaul.set_setting('max_history', 20)").await;
        let counting = |ctx: StepContext, n: Value| -> futures::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let mut n = n.as_i64().unwrap_or(0);
                for _ in 0..10 {
                    n = ctx.checkpoint("count", || async { Ok(n + 1) }).await?;
                }
                if n < 100 { Err(StepError::continue_as_new(&n)) } else { Ok(json!(n)) }
            })
        };
        let endless = |ctx: StepContext, _: Value| async move {
            loop {
                ctx.checkpoint("again", || async { Ok(()) }).await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), StepError>(())
        };
        let worker = db.spawn(worker(&db, "counting", counting).handler("endless", endless));
        let run = start(&client, &single("f", "counting"), &json!(0)).await;
        assert_eq!(within("the output", run.output::<i64>()).await.unwrap(), 100);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.checkpoint").await, 10, "only of the last part");
        let run = start(&client, &single("g", "endless"), &json!(0)).await;
        assert_eq!(ended(&run).await.error.unwrap().read::<Value>().unwrap()["code"], "history_too_long");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_sleep_side_by_side_wake_together() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let function = |ctx: StepContext, _: Value| -> futures::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let branches = (0..100).map(|number| {
                    branch(move |ctx: StepContext| async move {
                        if number % 2 == 0 {
                            ctx.sleep("nap", Duration::from_millis(300)).await?;
                        } else {
                            let never: Signalled<Value> =
                                ctx.signal_within("never", Duration::from_millis(300)).await?;
                            assert!(matches!(never, Signalled::TimedOut));
                        }
                        Ok(number)
                    })
                });
                Ok(json!(ctx.all(branches).await?))
            })
        };
        let worker = db.spawn(worker(&db, "function", function));
        client.deploy(&Flow::new("f", 1).step(Step::new("a", "function"))).await.unwrap();
        let run = client.start("f", &1).await.unwrap();
        within("the run", run.wait(Duration::from_secs(120))).await.unwrap().expect("it ends");
        let output: Vec<i64> = run.output().await.unwrap();
        assert_eq!(output, (0..100).collect::<Vec<_>>());
        let suspended: i64 = db.value("select count(*) from longhaul.attempt").await;
        assert!(suspended <= 10, "it was called again {suspended} times");
        worker.stop().await;
    })
    .await;
}
