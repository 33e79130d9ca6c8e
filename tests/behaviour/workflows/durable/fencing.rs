//! What a durable function writes is written by its owner only, and once.

use std::time::Duration;

use longhaul::{
    Payload, Step, StepContext, StepError,
    calls::{NewCheckpoint, NewWait},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{eventually, with_database, within},
    starting::play_worker,
    workflows::{Effects, ended, simple_worker, single, start},
};

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
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("book", book));
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
async fn a_completion_in_the_handlers_own_transaction_counts_as_one_and_does_not_stop_the_handler() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&single("f", "book")).await.unwrap();
        let database = db.database.clone();
        let gate = std::sync::Arc::new(tokio::sync::Notify::new());
        let held = gate.clone();
        let book = move |ctx: StepContext, _: Value| {
            let (database, held) = (database.clone(), held.clone());
            async move {
                let mut connection = database.connection().await?;
                let transaction = connection.transaction().await?;
                ctx.complete_in(&transaction, &json!("booked")).await?;
                transaction.commit().await?;
                held.notified().await;
                Ok::<_, StepError>(())
            }
        };
        let worker = db.worker().handler("book", book).build().unwrap();
        let observer = worker.observer();
        let mut outcomes = observer.subscribe();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(worker.run_until(async move { _ = stopped.await }));
        let run = client.start("f", &1).await.unwrap();
        within("the run", run.output::<Value>()).await.unwrap();
        // The heartbeats after that do not find the lease any more.
        for _ in 0..2 {
            let before: chrono::DateTime<chrono::Utc> = db.value("select heartbeat_at from longhaul.worker").await;
            eventually("it beats", || async {
                db.value::<chrono::DateTime<chrono::Utc>>("select heartbeat_at from longhaul.worker").await > before
            })
            .await;
        }
        gate.notify_one();
        let Some(longhaul::OutcomeEvent::Outcome(outcome)) = within("the outcome", outcomes.next()).await else {
            panic!("no outcome")
        };
        assert_eq!(outcome.outcome, "completed");
        eventually("it is counted", || async { observer.status().queues[0].1.completed == 1 }).await;
        assert_eq!(observer.status().queues[0].1.failed, 0);
        stop.send(()).unwrap();
        let summary = within("the shutdown", task).await.unwrap().unwrap();
        assert_eq!((summary.settled, summary.lost), (1, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_never_go_on_is_an_error_at_once() {
    with_database(|db| async move {
        let client = db.client().await;
        let tries = |ctx: StepContext, which: i64| async move {
            let inner = ctx.clone();
            match which {
                0 => {
                    ctx.checkpoint("outer", || async move { inner.sleep("inner", Duration::from_millis(1)).await })
                        .await
                }
                1 => {
                    ctx.checkpoint("outer", || async move { inner.checkpoint("inner", || async { Ok(()) }).await })
                        .await
                }
                2 => {
                    ctx.checkpoint("outer", || async move {
                        inner
                            .all([longhaul::branch(|ctx| async move { ctx.signal::<Value>("x").await })])
                            .await
                            .map(|_| ())
                    })
                    .await
                }
                3 => tokio::spawn(async move { inner.signal::<Value>("x").await }).await?.map(|_| ()),
                4 => ctx.signal::<Value>("").await.map(|_| ()),
                5 => ctx.topic_signal::<Value>(&"t".repeat(5_000), "k", None).await.map(|_| ()),
                6 => ctx.ask(longhaul::Question::new("q").choices(Vec::<String>::new())).await.map(|_| ()),
                7 => {
                    ctx.ask(longhaul::Question::new("q").expires(Duration::from_secs(1), "nonsense")).await.map(|_| ())
                }
                8 => ctx.interrupt::<Value>("why", &1, Some(json!([1]))).await.map(|_| ()),
                9 => Err(StepError::dispatched("", "k", None)),
                // Two at the same time are fine, also in one branch.
                _ => {
                    let two = futures::future::try_join(
                        ctx.checkpoint("a", || async {
                            tokio::task::yield_now().await;
                            Ok(())
                        }),
                        ctx.checkpoint("b", || async { Ok(()) }),
                    );
                    two.await.map(|_| ())
                }
            }
        };
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("tries", tries));
        client.deploy(&single("f", "tries")).await.unwrap();
        let said = [
            "sleep \"inner\" cannot be called in the closure of checkpoint \"outer\"",
            "step \"inner\" cannot be called in the closure of checkpoint \"outer\"",
            "all cannot be called in the closure of checkpoint \"outer\"",
            "cannot be awaited in a task of its own",
            "nobody could send that signal",
            "nobody could send that signal",
            "it has no choices",
            "not among its choices",
            "the metadata of an interrupt is an object",
            "nobody could send that signal",
        ];
        for (which, said) in said.into_iter().enumerate() {
            let run = ended(&client.start("f", &which).await.unwrap()).await;
            let error = run.error.unwrap_or_else(|| panic!("{which} has no error"));
            let message = error.read::<Value>().unwrap()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(said), "{which}: {message}");
        }
        within("the last", client.start("f", &99).await.unwrap().output::<()>()).await.unwrap();
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
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("function", function));
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
async fn a_wait_that_cannot_be_stored_fails_its_own_step_only() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let function = |ctx: StepContext, long: bool| async move {
            // Longer than a key may be, and than an index can hold.
            let key = (0..if long { 3000 } else { 1 }).map(|_| Uuid::new_v4().simple().to_string()).collect::<String>();
            ctx.topic_signal::<Value>("topic", &key, Some(Duration::from_millis(1))).await?;
            Ok::<_, StepError>(())
        };
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("function", function));
        client.deploy(&single("f", "function")).await.unwrap();
        let ids = client.start_many("f", (0..20).map(|n| n == 7)).await.unwrap().ids();
        for (n, id) in ids.into_iter().enumerate() {
            let run = ended(&client.run(id)).await;
            assert_eq!(run.state.as_str(), if n == 7 { "failed" } else { "completed" });
            if let Some(error) = run.error {
                assert!(error.as_str().contains("nobody could send that signal"), "{}", error.as_str());
            }
        }
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
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let key = calls.claim(worker, &["default"], &[1]).await.unwrap()[0].key;
        let checkpoint = |path: &str| NewCheckpoint {
            key,
            path: path.into(),
            kind: "step",
            name: "n".into(),
            value: Payload::new(&1).unwrap(),
        };
        assert!(calls.save_checkpoints(worker, &[checkpoint("0")]).await.unwrap().is_empty());
        assert!(calls.save_checkpoints(worker, &[checkpoint("0")]).await.unwrap().is_empty(), "twice is once");
        let refused = calls.save_checkpoints(worker + 1, &[checkpoint("1")]).await.unwrap();
        assert_eq!(refused[0].reason, "lease_lost");
        run.stop().await.unwrap();
        assert_eq!(calls.save_checkpoints(worker, &[checkpoint("1")]).await.unwrap()[0].reason, "lease_lost");
        assert_eq!(calls.history(key.step).await.unwrap().len(), 1);
        let suspended =
            calls.suspend(worker, &[(key, vec![NewWait { kind: "sleep", ..Default::default() }])]).await.unwrap();
        assert_eq!(suspended[0].reason, "lease_lost");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_whose_answer_was_lost_is_told_that_it_was_made() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        db.client().await.start("f", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let key = calls.claim(worker, &["default"], &[1]).await.unwrap()[0].key;
        let sleep = || {
            vec![NewWait { kind: "sleep", path: "0".into(), wait: Some(Duration::from_secs(60)), ..Default::default() }]
        };
        assert!(calls.suspend(worker, &[(key, sleep())]).await.unwrap().is_empty());
        assert!(calls.suspend(worker, &[(key, sleep())]).await.unwrap()[0].was_done_before());
        assert_eq!(db.value::<i64>("select count(*) from longhaul.wait").await, 1);
        assert!(calls.suspend(worker, &[(key, vec![])]).await.unwrap()[0].was_done_before());
    })
    .await;
}
