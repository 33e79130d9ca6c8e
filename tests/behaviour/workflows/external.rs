//! Work that outside providers do, and providers that are busy.

use std::time::Duration;

use longhaul::{Flow, Payload, Retry, Step, StepContext, StepError, calls::StepState};
use serde_json::{Value, json};

use super::{Effects, ended, input, simple_worker, single, start, state_of};
use crate::harness::{TestDb, eventually, with_database};

fn payload(value: Value) -> Payload {
    Payload::new(&value).unwrap()
}

fn dispatching(db: &TestDb, effects: &Effects) -> longhaul::WorkerBuilder {
    let sent = effects.clone();
    simple_worker(db, effects).handler("dispatch", move |ctx: StepContext, key: String| {
        let sent = sent.clone();
        async move {
            sent.add(format!("sent {key} for attempt {}", ctx.attempt()));
            Err::<(), _>(StepError::dispatched("provider.done", key, Some(Duration::from_secs(3600))))
        }
    })
}

fn flow(name: &str) -> Flow {
    Flow::new(name, 1)
        .step(Step::new("send", "dispatch").retry(Retry::fixed(2, Duration::ZERO)))
        .step(Step::new("after", "echo").after("send").input("$.steps.send"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_wakes_every_matching_run_now_and_later_and_the_second_changes_nothing() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let effects = Effects::default();
        let worker = db.spawn(dispatching(&db, &effects));
        let runs = [start(&client, &flow("f"), &json!("k")).await, start(&client, &flow("f"), &json!("k")).await];
        for run in &runs {
            eventually("it waits", || async { state_of(&client, run, "send").await == StepState::Waiting }).await;
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 0, "no slot is held");
        let first = client.complete_external("provider.done", "k", Ok(&payload(json!({ "ok": 1 })))).await.unwrap();
        let second = client.complete_external("provider.done", "k", Ok(&payload(json!({ "ok": 2 })))).await.unwrap();
        assert_eq!(first, second);
        for run in &runs {
            ended(run).await;
            assert_eq!(run.output::<Value>().await.unwrap(), json!({ "ok": 1 }));
        }
        // One that waits later finds it.
        let late = start(&client, &flow("f"), &json!("k")).await;
        ended(&late).await;
        assert_eq!(late.output::<Value>().await.unwrap(), json!({ "ok": 1 }));
        let attempts = client.attempts(late.id()).await.unwrap();
        assert_eq!(attempts.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(), ["suspended"]);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_or_overdue_completion_is_a_failed_attempt() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let effects = Effects::default();
        let worker = db.spawn(dispatching(&db, &effects));
        let run = start(&client, &flow("f"), &json!("bad")).await;
        // Each report is the failure of the attempt that waits for it.
        for (attempt, message) in [(1, "busy"), (2, "declined")] {
            eventually("it is sent", || async { effects.count(&format!("sent bad for attempt {attempt}")) == 1 }).await;
            eventually("it waits", || async { state_of(&client, &run, "send").await == StepState::Waiting }).await;
            client
                .complete_external("provider.done", "bad", Err(&payload(json!({ "message": message }))))
                .await
                .unwrap();
        }
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert_eq!(error["message"], "declined");
        assert_eq!(effects.all(), ["sent bad for attempt 1", "sent bad for attempt 2"]);

        let run = start(&client, &flow("g"), &json!("slow")).await;
        for attempt in 1..=2 {
            eventually("it waits", || async { effects.count(&format!("sent slow for attempt {attempt}")) == 1 }).await;
            eventually("it waits", || async { state_of(&client, &run, "send").await == StepState::Waiting }).await;
            db.execute("select longhaul.advance_clock('61 minutes')").await;
        }
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert!(
            error["message"].as_str().unwrap().contains("no completion came on provider.done slow in time"),
            "{error}"
        );
        let outcomes: Vec<String> = client.attempts(run.id()).await.unwrap().into_iter().map(|a| a.outcome).collect();
        assert_eq!(outcomes, ["timed_out", "timed_out"]);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deferrals_consume_no_attempt_and_wait_longer_each_time() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let busy = |ctx: StepContext, _: Value| async move {
            if ctx.fencing_token() < 6 { Err(StepError::defer("the provider is busy")) } else { Ok(ctx.attempt()) }
        };
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("busy", busy));
        let retry = Retry { jitter: 0.0, ..Retry::exponential(1) };
        let run = start(&client, &Flow::new("f", 1).step(Step::new("a", "busy").retry(retry)), &input()).await;
        for deferral in 1..6_i64 {
            eventually("deferred", || async { db.value::<i64>("select count(*) from longhaul.attempt").await >= deferral }).await;
            let wait: f64 = db.value("select extract(epoch from t.fire_at - a.ended_at)::float8 from longhaul.timer t join longhaul.attempt a using (run_id, seq, attempt)").await;
            assert!((wait - 2f64.powi(deferral as i32 - 1)).abs() < 0.1, "deferral {deferral} waits {wait} s");
            db.execute(&format!("select longhaul.advance_clock('{wait} s')")).await;
        }
        ended(&run).await;
        assert_eq!(run.output::<u32>().await.unwrap(), 1);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_provider_slows_only_the_steps_that_need_it() {
    with_database(|db| async move {
        let client = db.client().await;
        let hangs = |_: StepContext, _: Value| std::future::pending::<Result<(), StepError>>();
        let worker = db.spawn(simple_worker(&db, &Effects::default()).queue("hung", 10).handler("hangs", hangs));
        client.deploy(&Flow::new("hung", 1).step(Step::new("a", "hangs").queue("hung"))).await.unwrap();
        client.deploy(&single("healthy", "echo")).await.unwrap();
        client.start_many("hung", 0..100).await.unwrap();
        let ids = client.start_many("healthy", 0..1000).await.unwrap().ids();
        for id in ids {
            ended(&client.run(id)).await;
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 10);
        // Reads and operations on the hung ones do not wait either.
        let hung = client
            .list(&longhaul::calls::RunFilter { flow: Some("hung".into()), limit: 1, ..Default::default() })
            .await
            .unwrap();
        client.run(hung[0].id).rename(Some("hung")).await.unwrap();
        db.execute("update longhaul.worker set expires_at = now()").await;
        worker.stop().await;
    })
    .await;
}
