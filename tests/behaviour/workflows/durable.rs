//! Durable functions: resumed after anything, at the first thing that was not done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{
    Error, Flow, Retry, Signalled, Step, StepContext, StepError, branch,
    calls::{NewSignal, StepState},
};
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
    simple_worker(db, &Effects::default()).handler(name, function).unwrap()
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
        let worker = db.spawn(worker(&db, "function", function).handler("double", double).unwrap());
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
        let worker = db.spawn(worker(&db, "counting", counting).handler("endless", endless).unwrap());
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
async fn a_step_completes_in_the_handlers_own_transaction_or_not_at_all() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        db.execute("create table public.ledger (run uuid, n int)").await;
        let database = db.database.clone();
        let book = move |ctx: StepContext, n: i64| {
            let database = database.clone();
            async move {
                let mut connection = database.connection().await?;
                let transaction = connection.transaction().await?;
                transaction.execute("insert into public.ledger values ($1, $2)", &[&ctx.run_id(), &(n as i32)]).await?;
                ctx.complete_in(&transaction, &json!({ "booked": n })).await?;
                match (n % 3, ctx.attempt()) {
                    (0, _) => transaction.commit().await?,
                    (1, 1) => drop(transaction), // forgotten
                    (2, 1) => return Err(StepError::retry("rolled back")),
                    _ => {
                        transaction.commit().await?;
                        return Err(StepError::retry("fails after the commit"));
                    }
                }
                Ok(())
            }
        };
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("book", book).unwrap());
        client.deploy(&single("f", "book")).await.unwrap();
        let ids = client.start_many("f", 0..60).await.unwrap().ids();
        for id in ids {
            let output: Value = within("the output", client.run(id).output()).await.unwrap();
            assert!(output["booked"].is_number());
        }
        assert_eq!(db.value::<i64>("select count(distinct run) from public.ledger").await, 60);
        assert_eq!(db.value::<i64>("select count(*) from public.ledger").await, 60, "exactly once");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_at_the_limit_is_stored_and_one_beyond_it_is_refused() {
    with_database(|db| async move {
        let client = db.client().await;
        let function = |ctx: StepContext, size: usize| async move {
            // With its quotes, a text has two more bytes.
            let text: String = ctx.checkpoint("text", || async { Ok("x".repeat(size - 2)) }).await?;
            ctx.sleep("between", Duration::from_millis(1)).await?;
            Ok::<_, StepError>(text.len())
        };
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("function", function).unwrap());
        let limit: usize = 1_048_576;
        let run = start(&client, &single("f", "function"), &json!(limit)).await;
        assert_eq!(within("the output", run.output::<usize>()).await.unwrap(), limit - 2);
        let run = client.start("f", &(limit + 1)).await.unwrap();
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("checkpoint text cannot be stored: the payload has 1048577 bytes"),
            "{error}"
        );
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_lost_lease_is_refused() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let client = db.client().await;
        let run = client.start("f", &1).await.unwrap();
        let worker = crate::starting::play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let key = calls.claim(worker, &["default"], &[1]).await.unwrap()[0].key;
        let checkpoint = |path: &str| longhaul::calls::NewCheckpoint {
            key,
            path: path.into(),
            kind: "step",
            name: "n".into(),
            value: longhaul::Payload::new(&1).unwrap(),
        };
        assert!(calls.save_checkpoints(worker, &[checkpoint("0")]).await.unwrap().is_empty());
        assert!(calls.save_checkpoints(worker, &[checkpoint("0")]).await.unwrap().is_empty(), "twice is once");
        let refused = calls.save_checkpoints(worker + 1, &[checkpoint("1")]).await.unwrap();
        assert_eq!(refused[0].reason, "lease_lost");
        run.stop().await.unwrap();
        assert_eq!(calls.save_checkpoints(worker, &[checkpoint("1")]).await.unwrap()[0].reason, "lease_lost");
        assert_eq!(calls.history(key.step).await.unwrap().len(), 1);
        let suspended = calls
            .suspend(worker, &[(key, vec![longhaul::calls::Awaited { kind: "sleep", ..Default::default() }])])
            .await
            .unwrap();
        assert_eq!(suspended[0].reason, "lease_lost");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_whose_answer_was_lost_is_told_that_it_was_made() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        db.client().await.start("f", &1).await.unwrap();
        let worker = crate::starting::play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let key = calls.claim(worker, &["default"], &[1]).await.unwrap()[0].key;
        let sleep = || {
            vec![longhaul::calls::Awaited {
                kind: "sleep",
                path: "0".into(),
                wait: Some(Duration::from_secs(60)),
                ..Default::default()
            }]
        };
        assert!(calls.suspend(worker, &[(key, sleep())]).await.unwrap().is_empty());
        assert!(calls.suspend(worker, &[(key, sleep())]).await.unwrap()[0].was_done_before());
        assert_eq!(db.value::<i64>("select count(*) from longhaul.wait").await, 1);
        assert!(matches!(calls.suspend(worker, &[(key, vec![])]).await, Err(Error::Invalid(_))));
    })
    .await;
}

/// What every function of the test below does: sleeps, signals, children, a race and checkpoints that are counted outside
/// of the database.
async fn everything(ctx: StepContext, n: i64, effects: Effects) -> Result<Value, StepError> {
    let note = |what: &str| {
        let (effects, entry) = (effects.clone(), format!("{n} {what}"));
        move || async move {
            effects.add(entry);
            Ok(n)
        }
    };
    let a: i64 = ctx.checkpoint("a", note("a")).await?;
    effects.add(format!("{n} a saved"));
    ctx.sleep("nap", Duration::from_millis(50)).await?;
    let signalled: i64 = ctx.signal("go").await?;
    let child: i64 = ctx.child("child", &n).await?;
    let raced = ctx
        .race([
            branch(|ctx| async move {
                ctx.sleep("long", Duration::from_secs(3600)).await?;
                Ok("slept")
            }),
            branch(|ctx| async move {
                ctx.sleep("short", Duration::from_millis(100)).await?;
                Ok("won")
            }),
        ])
        .await?;
    let b: i64 = ctx.checkpoint("b", note("b")).await?;
    effects.add(format!("{n} b saved"));
    Ok(json!([a, signalled, child, raced, b]))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_functions_survive_crashes_of_the_server_and_loss_of_workers() {
    use longhaul_ops::embedded::{ClusterOptions, temporary_folder};

    // A server of its own, which is crashed.
    let folder = temporary_folder().unwrap();
    let mut cluster = ClusterOptions::new(folder.path()).start().await.unwrap();
    let mut config = cluster.config().unwrap();
    config.retry_for = Duration::from_secs(60);
    let db = TestDb { name: "postgres".into(), database: longhaul::Database::new(&config).unwrap(), config };
    longhaul::migrate::migrate(&db.database).await.unwrap();

    let client = db.client().await;
    db.spawn_scheduler();
    let effects = Effects::default();
    let builder = || {
        let effects = effects.clone();
        let function = move |ctx: StepContext, n: i64| everything(ctx, n, effects.clone());
        simple_worker(&db, &Effects::default()).handler("everything", function).unwrap()
    };
    client.deploy(&Flow::new("child", 1).step(Step::new("a", "echo"))).await.unwrap();
    let step = Step::new("a", "everything").retry(Retry::fixed(1000, Duration::from_millis(10)));
    client.deploy(&Flow::new("f", 1).step(step)).await.unwrap();
    let ids = client.start_many("f", 0..500).await.unwrap().ids();
    let mut workers: Vec<_> = (0..3).map(|_| db.spawn(builder())).collect();
    let sending = {
        let (client, ids) = (client.clone(), ids.clone());
        tokio::spawn(async move {
            for (n, id) in ids.into_iter().enumerate() {
                let once = NewSignal {
                    idempotency_key: Some("once".into()),
                    ..NewSignal::new("go", longhaul::Payload::new(&n).unwrap())
                };
                client.run(id).send(once).await.unwrap();
            }
        })
    };
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        if round % 2 == 0 {
            cluster.kill().await;
            cluster.start().await.unwrap();
        }
        // A worker is gone without a word, and another one comes.
        workers.remove(0).kill();
        workers.push(db.spawn(builder()));
    }
    sending.await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        let output: Value = within("the output", client.run(*id).output()).await.unwrap();
        assert_eq!(output, json!([n, n, n, "won", n]));
    }
    db.assert_rooms_are_sound().await;
    // A closure runs again only if its checkpoint was not stored: once it is, never.
    let mut saved = std::collections::HashSet::new();
    for effect in effects.all() {
        match effect.strip_suffix(" saved") {
            Some(closure) => _ = saved.insert(closure.to_owned()),
            None => assert!(!saved.contains(&effect), "the closure of {effect} ran again"),
        }
    }
    assert_eq!(saved.len(), 1000);
    for worker in workers {
        worker.stop().await;
    }
    db.database.close();
    cluster.stop().await;
}
