//! Signals: to runs, and to topics and keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use longhaul::{
    Error, Flow, OnTimeout, Payload, Step, StepContext, StepError, WaitSignal,
    calls::{NewSignal, RunState},
};
use serde_json::{Value, json};

use super::{Effects, ended, simple_worker, start, state_of};
use crate::harness::{eventually, with_database, within};

fn waiting(name: &str, signal: WaitSignal) -> Flow {
    Flow::new(name, 1).step(Step::wait_signal("wait", signal))
}

fn payload(value: Value) -> Payload {
    Payload::new(&value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_found_whether_it_comes_before_or_after_the_wait() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1)
            .step(Step::wait_signal("first", WaitSignal::new("t")))
            .step(Step::wait_signal("second", WaitSignal::new("t")).after("first"));
        let run = start(&client, &flow, &json!(1)).await;
        assert_eq!(client.why(run.id(), "first").await.unwrap(), "Step first waits for: signal t.");
        run.signal("other", &0).await.unwrap();
        for n in 1..=2 {
            run.signal("t", &n).await.unwrap();
        }
        run.signal("t", &3).await.unwrap_err();
        assert_eq!(run.get().await.unwrap().state, RunState::Completed, "without any worker");
        assert_eq!(run.output::<i64>().await.unwrap(), 2, "oldest first");

        // Sent while nobody waits for it, it is kept.
        let early = start(
            &client,
            &Flow::new("g", 1)
                .step(Step::new("a", "nobody"))
                .step(Step::wait_signal("wait", WaitSignal::new("t")).after("a")),
            &json!(1),
        )
        .await;
        early.signal("t", &"early").await.unwrap();
        let worker =
            db.spawn(db.worker().handler("nobody", |_: StepContext, _: Value| async { Ok::<_, StepError>(()) }));
        assert_eq!(early.output::<String>().await.unwrap(), "early");
        worker.stop().await;

        let signals = db.calls().await.list_signals(run.id()).await.unwrap();
        let consumed: Vec<bool> = signals.iter().map(|s| s.consumed_by == Some(run.id())).collect();
        assert_eq!(consumed, [false, true, true], "{signals:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_is_one_signal() {
    with_database(|db| async move {
        let client = db.client().await;
        let run = start(&client, &Flow::new("f", 1).step(Step::new("a", "nobody")), &json!(1)).await;
        let signal = || NewSignal { idempotency_key: Some("k".into()), ..NewSignal::new("t", Payload::null()) };
        let ids = futures::future::join_all((0..20).map(|_| run.send(signal()))).await;
        let ids: BTreeSet<i64> = ids.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1);
        let ids = futures::future::join_all((0..20).map(|_| client.send_signal("key", signal()))).await;
        assert_eq!(ids.into_iter().map(Result::unwrap).collect::<BTreeSet<i64>>().len(), 1);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.signal").await, 2);
        // Also when the run has ended in between: it was accepted.
        run.stop().await.unwrap();
        run.send(signal()).await.unwrap();
        assert!(matches!(run.signal("t", &1).await, Err(Error::Refused(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_in_time_and_the_signal_after_that_is_kept() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let patient = |then| WaitSignal::new("t").timeout(Duration::from_secs(3600), then);
        let fails = start(&client, &waiting("fails", patient(OnTimeout::Fail)), &json!(1)).await;
        let goes_on = Flow::new("goes-on", 1)
            .step(Step::wait_signal("wait", patient(OnTimeout::Continue)))
            .step(Step::wait_signal("again", WaitSignal::new("t")).after("wait"));
        let goes_on = start(&client, &goes_on, &json!(1)).await;
        db.execute("select longhaul.advance_clock('61 minutes')").await;
        let error: Value = ended(&fails).await.error.unwrap().read().unwrap();
        assert!(error["message"].as_str().unwrap().contains("no signal came on t in time"), "{error}");
        eventually("the second wait", || async { state_of(&client, &goes_on, "again").await.as_str() == "waiting" })
            .await;
        goes_on.signal("t", &"late").await.unwrap();
        assert_eq!(goes_on.output::<String>().await.unwrap(), "late");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_nobody_consumes_expire() {
    with_database(|db| async move {
        let client = db.client().await;
        let keep = Some(Duration::from_secs(60));
        client.send_signal("k", NewSignal { keep, ..NewSignal::new("t", Payload::null()) }).await.unwrap();
        db.execute("select longhaul.advance_clock('2 minutes')").await;
        let run = start(&client, &waiting("f", WaitSignal::new("t").key("k")), &json!(1)).await;
        assert_eq!(state_of(&client, &run, "wait").await.as_str(), "waiting", "an expired signal is none");
        assert_eq!(db.value::<i64>("select longhaul.forget_signals()").await, 1);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.signal").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_consumers_take_ten_thousand_signals_once_each_and_in_order() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        // Durable functions that take 200 signals each, from one topic; and signals sent to each run, in order.
        let consumer = |ctx: StepContext, signals: usize| async move {
            let mut seen = Vec::new();
            for _ in 0..signals {
                seen.push(ctx.signal::<i64>("work").await?);
            }
            Ok::<_, StepError>(seen)
        };
        let shared = |ctx: StepContext, signals: usize| async move {
            let mut seen = Vec::new();
            for _ in 0..signals {
                match ctx.topic_signal::<i64>("work", "shared", None).await? {
                    longhaul::Signalled::Signal(n) => seen.push(n),
                    longhaul::Signalled::TimedOut => return Err(StepError::fail("there is no time limit")),
                }
            }
            Ok::<_, StepError>(seen)
        };
        let workers: Vec<_> = (0..3)
            .map(|_| {
                db.spawn(
                    db.worker()
                        .lease(Duration::from_secs(60))
                        .queue("default", 50)
                        .handler("consumer", consumer)
                        .handler("shared", shared),
                )
            })
            .collect();
        db.deploy_single("own", Step::new("a", "consumer")).await;
        db.deploy_single("shared", Step::new("a", "shared")).await;
        let own: Vec<_> = client.start_many("own", vec![100; 50]).await.unwrap().ids();
        let shared: Vec<_> = client.start_many("shared", vec![100; 50]).await.unwrap().ids();
        let to_runs = own.iter().map(|id| {
            let run = client.run(*id);
            async move {
                for n in 0..100 {
                    run.signal("work", &n).await.unwrap();
                }
            }
        });
        let to_topic = (0..10).map(|part| {
            let client = client.clone();
            async move {
                for n in 0..500 {
                    client.send_signal("shared", NewSignal::new("work", payload(json!(part * 500 + n)))).await.unwrap();
                }
            }
        });
        futures::future::join(futures::future::join_all(to_runs), futures::future::join_all(to_topic)).await;
        for id in &own {
            let seen: Vec<i64> = within("a consumer", client.run(*id).output()).await.unwrap();
            assert_eq!(seen, (0..100).collect::<Vec<_>>(), "each once, oldest first");
        }
        let mut all: BTreeMap<i64, usize> = BTreeMap::new();
        for id in &shared {
            let seen: Vec<i64> = within("a consumer", client.run(*id).output()).await.unwrap();
            for n in seen {
                *all.entry(n).or_default() += 1;
            }
        }
        assert_eq!(all.len(), 5_000);
        assert!(all.values().all(|times| *times == 1), "each by one");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.signal where consumed_at is null").await, 0);
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_and_a_wait_that_come_at_once_always_meet() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        client.deploy(&waiting("f", WaitSignal::new("t").key("$.input"))).await.unwrap();
        let pairs = (0..300).map(|n| {
            let client = client.clone();
            async move {
                let key = format!("k{n}");
                let sending = client.send_signal(&key, NewSignal::new("t", payload(json!(n))));
                let (run, sent) = tokio::join!(client.start("f", &key), sending);
                sent.unwrap();
                assert_eq!(run.unwrap().output::<i64>().await.unwrap(), n);
            }
        });
        within("all meet", futures::future::join_all(pairs)).await;
        eventually("no notice is left", || async {
            db.value::<i64>("select count(*) from longhaul.notice").await == 0
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_to_a_run_that_is_being_stopped_are_accepted_or_refused_and_never_half() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&waiting("f", WaitSignal::new("t"))).await.unwrap();
        for _ in 0..50 {
            let run = client.start("f", &1).await.unwrap();
            let (stopped, sent) = tokio::join!(run.stop(), run.signal("t", &1));
            let state = run.get().await.unwrap().state;
            match (stopped.is_ok(), sent.is_ok()) {
                (true, false) => assert_eq!(state, RunState::Cancelled),
                (false, true) => assert_eq!(state, RunState::Completed),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_every_live_run_that_matches() {
    with_database(|db| async move {
        let client = db.client().await;
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        client.deploy(&waiting("f", WaitSignal::new("t"))).await.unwrap();
        client.deploy(&waiting("g", WaitSignal::new("t"))).await.unwrap();
        let start = |flow: &'static str, region: &'static str| {
            let start = longhaul::Start::new(&1).unwrap().metadata(&json!({ "region": region })).unwrap();
            client.start_with(flow, start)
        };
        let (a, b, c) = (
            start("f", "north").await.unwrap(),
            start("f", "south").await.unwrap(),
            start("g", "north").await.unwrap(),
        );
        let north = payload(json!({ "region": "north" }));
        assert_eq!(
            client.broadcast(NewSignal::new("t", payload(json!("x"))), Some("f"), Some(&north)).await.unwrap(),
            1
        );
        assert_eq!(ended(&a).await.state, RunState::Completed);
        assert_eq!(client.broadcast(NewSignal::new("t", payload(json!("y"))), None, None).await.unwrap(), 2);
        assert_eq!(
            (b.output::<String>().await.unwrap(), c.output::<String>().await.unwrap()),
            ("y".into(), "y".into())
        );
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_signals_are_refused() {
    with_database(|db| async move {
        let client = db.client().await;
        let run = start(&client, &waiting("f", WaitSignal::new("t")), &json!(1)).await;
        assert!(matches!(run.signal("", &1).await, Err(Error::Invalid(_))));
        assert!(matches!(run.signal(&"t".repeat(201), &1).await, Err(Error::Invalid(_))));
        assert!(matches!(run.signal("t", &"x".repeat(2_000_000)).await, Err(Error::Invalid(_))));
        assert!(matches!(run.signal("t", &"\0").await, Err(Error::Invalid(_))));
        assert!(matches!(client.run(uuid::Uuid::now_v7()).signal("t", &1).await, Err(Error::NotFound(_))));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.signal").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_signal_nobody_could_send_fails_at_once() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = waiting("f", WaitSignal::new("t").key("$.input.key"));
        for (key, wrong) in [
            (json!([1]), "is neither a text nor a number"),
            (json!("x".repeat(501)), "the key of its signal has 501 characters, more than 500"),
        ] {
            let run = start(&client, &flow, &json!({ "key": key })).await;
            let error: Value = run.get().await.unwrap().error.unwrap().read().unwrap();
            assert!(error["message"].as_str().unwrap().contains(wrong), "{error}");
        }
        let run = start(&client, &flow, &json!({ "key": "x".repeat(500) })).await;
        client.send_signal(&"x".repeat(500), NewSignal::new("t", payload(json!("y")))).await.unwrap();
        assert_eq!(run.output::<String>().await.unwrap(), "y");
    })
    .await;
}
