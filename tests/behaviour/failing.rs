//! Attempts that fail, and what follows.

use std::time::Duration;

use longhaul::{Flow, Retry, Step, StepContext, StepError, calls::RunState, calls::StepState};
use serde_json::Value;

use crate::harness::{TestDb, with_database, within};

fn quick(attempts: u16) -> Retry {
    Retry::fixed(attempts, Duration::from_millis(1))
}

/// Runs a flow of one step to its end; returns its state and how each failed attempt ended.
async fn outcome(db: &TestDb, step: Step) -> (RunState, Vec<(String, String)>) {
    let name = step.name.clone();
    db.deploy_single(&name, step).await;
    let client = db.client().await;
    let run = client.start(&name, &Value::Null).await.unwrap();
    let ended = within("the run", run.wait(Duration::from_secs(60))).await.unwrap().expect("in time");
    let attempts = client.attempts(run.id()).await.unwrap();
    let attempts = attempts
        .into_iter()
        .map(|a| {
            (
                a.outcome,
                a.error
                    .map(|e| e.read::<Value>().unwrap()["message"].as_str().unwrap_or_default().to_owned())
                    .unwrap_or_default(),
            )
        })
        .collect();
    (ended.state, attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_retried_until_it_succeeds_or_none_is_left() {
    with_database(|db| async move {
        let flaky = |ctx: StepContext, _: Value| async move {
            if ctx.attempt() < 3 {
                Err(StepError::retry(format!("attempt {}", ctx.attempt())))
            } else {
                Ok(ctx.fencing_token())
            }
        };
        let worker = db.spawn(db.worker().handler("flaky", flaky));
        db.spawn_scheduler();

        let (state, attempts) = outcome(&db, Step::new("enough", "flaky").retry(quick(3))).await;
        assert_eq!(state, RunState::Completed);
        assert_eq!(attempts, [("failed".into(), "attempt 1".into()), ("failed".into(), "attempt 2".into())]);

        let (state, attempts) = outcome(&db, Step::new("too-few", "flaky").retry(quick(2))).await;
        assert_eq!(state, RunState::Failed);
        assert_eq!(attempts.len(), 2);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panics_timeouts_and_final_errors_are_told_apart() {
    with_database(|db| async move {
        let worker = db
            .worker()
            .handler("panics", |_: StepContext, _: Value| async move {
                if true { panic!("at {}", "sea") } else { Ok::<_, StepError>(()) }
            })
            .handler("hangs", |_: StepContext, _: Value| std::future::pending::<Result<(), StepError>>())
            .handler("fails", |_: StepContext, _: Value| async move { Err::<(), _>(StepError::fail("no use")) })
            .handler("wants", |_: StepContext, _: u32| async move { Ok::<_, StepError>(()) });
        let worker = db.spawn(worker);
        db.spawn_scheduler();

        let (state, attempts) = outcome(&db, Step::new("panics", "panics").retry(quick(2))).await;
        assert_eq!(state, RunState::Failed);
        assert_eq!(attempts, vec![("panicked".to_owned(), "the handler panicked: at sea".to_owned()); 2]);

        let (state, attempts) =
            outcome(&db, Step::new("hangs", "hangs").retry(quick(2)).timeout(Duration::from_millis(30))).await;
        assert_eq!(state, RunState::Failed);
        assert_eq!(
            attempts.iter().map(|(outcome, _)| outcome.as_str()).collect::<Vec<_>>(),
            ["timed_out", "timed_out"]
        );

        let (state, attempts) = outcome(&db, Step::new("fails", "fails").retry(quick(5))).await;
        assert_eq!((state, attempts), (RunState::Failed, vec![("failed".into(), "no use".into())]));

        let (state, attempts) = outcome(&db, Step::new("wants", "wants").retry(quick(5))).await;
        assert_eq!(state, RunState::Failed);
        assert!(attempts.len() == 1 && attempts[0].1.contains("the input does not fit handler wants"), "{attempts:?}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_destructor_fails_the_attempt_and_harms_nobody_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in a destructor");
            }
        }
    }
    with_database(|db| async move {
        let bomb = |_: StepContext, _: Value| {
            let bomb = Bomb;
            async move {
                let _kept = bomb;
                std::future::pending::<Result<(), StepError>>().await
            }
        };
        let worker = db.worker().handler("bomb", bomb);
        let worker = db.spawn(worker.handler("fine", |_: StepContext, n: i64| async move { Ok::<_, StepError>(n) }));
        db.spawn_scheduler();
        let (state, attempts) =
            outcome(&db, Step::new("bomb", "bomb").retry(quick(1)).timeout(Duration::from_millis(20))).await;
        assert_eq!(state, RunState::Failed);
        assert_eq!(attempts.len(), 1);
        db.deploy_single("fine", Step::new("a", "fine")).await;
        let run = db.client().await.start("fine", &1).await.unwrap();
        within("the next run", run.output::<i64>()).await.unwrap();
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snoozing_consumes_no_attempt() {
    with_database(|db| async move {
        let poll = |ctx: StepContext, _: Value| async move {
            assert_eq!(ctx.attempt(), 1);
            if ctx.fencing_token() < 4 { Err(StepError::snooze(Duration::from_millis(1))) } else { Ok(()) }
        };
        let worker = db.spawn(db.worker().handler("poll", poll));
        db.spawn_scheduler();
        let (state, attempts) = outcome(&db, Step::new("poll", "poll").retry(quick(1))).await;
        assert_eq!(state, RunState::Completed);
        assert_eq!(attempts.iter().map(|(outcome, _)| outcome.as_str()).collect::<Vec<_>>(), ["snoozed"; 3]);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_fails_its_run_and_cancels_what_is_left_of_it() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1)
            .step(Step::new("bad", "fails"))
            .step(Step::new("busy", "hangs"))
            .step(Step::new("unclaimed", "nobody"))
            .step(Step::new("next", "nobody").after("bad"));
        client.deploy(&flow).await.unwrap();
        let worker = db
            .worker()
            // Told by notification, and not by its next heartbeat.
            .heartbeat(Duration::from_secs(600))
            .lease(Duration::from_secs(3600))
            .handler("fails", |ctx: StepContext, _: Value| async move {
                // The other one runs before this one fails.
                while ctx.output::<Value>("busy").await.is_err() && !BUSY.load(std::sync::atomic::Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err::<(), _>(StepError::fail("no use"))
            })
            .handler("hangs", |ctx: StepContext, _: Value| async move {
                BUSY.store(true, std::sync::atomic::Ordering::SeqCst);
                let _end = SetOnDrop;
                ctx.cancelled().await;
                std::future::pending::<Result<(), StepError>>().await
            });
        let worker = db.spawn(worker);
        let run = client.start("f", &1).await.unwrap();
        let ended = within("the run", run.wait(Duration::from_secs(60))).await.unwrap().expect("in time");

        assert_eq!(ended.state, RunState::Failed);
        let error: Value = ended.error.unwrap().read().unwrap();
        assert_eq!((error["step"].as_str(), error["message"].as_str()), (Some("bad"), Some("no use")));
        let states: Vec<StepState> = client.steps(run.id()).await.unwrap().iter().map(|s| s.state).collect();
        assert_eq!(states, [StepState::Failed, StepState::Cancelled, StepState::Cancelled, StepState::Cancelled]);
        crate::harness::eventually("the other handler is stopped", || async {
            DROPPED.load(std::sync::atomic::Ordering::SeqCst)
        })
        .await;
        worker.stop().await;
    })
    .await;
}

static BUSY: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
static DROPPED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

struct SetOnDrop;

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        DROPPED.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backoff_grows_up_to_its_cap_within_its_jitter() {
    with_database(|db| async move {
        db.deploy_single(
            "b",
            Step::new("a", "h").retry(Retry {
                attempts: 100,
                backoff: Duration::from_secs(2).into(),
                factor: 3.0,
                cap: Duration::from_secs(100).into(),
                jitter: 0.1,
                never_on: Vec::new(),
            }),
        )
        .await;
        for (failures, expected) in [(1, 2_000.0), (2, 6_000.0), (3, 18_000.0), (4, 54_000.0), (5, 100_000.0), (30_000, 100_000.0)] {
            let sql = format!("select min(b)::float8 from (select longhaul.backoff_ms(f, {failures}) as b from longhaul.flow_step f, generate_series(1, 200)) x");
            let (least, most): (f64, f64) = (db.value(&sql).await, db.value(&sql.replace("min(", "max(")).await);
            assert!(least >= expected * 0.9 - 1.0 && most <= expected * 1.1 + 1.0, "{failures}: {least} to {most}");
            assert!(most - least > expected * 0.1, "{failures}: there is no jitter");
        }
    })
    .await;
}
