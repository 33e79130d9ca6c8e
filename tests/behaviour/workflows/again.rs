//! Retrying and forking runs; dead letters; timeouts of runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use longhaul::{
    Error, Flow, Payload, Retry, Step, StepContext, StepError, WorkerBuilder,
    calls::{DeadLetterFilter, OperationOptions, StepState},
};
use serde_json::{Value, json};

use super::{Effects, ended, input, once, simple_worker, start, state_of, states};
use crate::harness::{TestDb, with_database};

/// A worker whose handler `gate` fails until the gate is opened.
fn gated(db: &TestDb, effects: &Effects) -> (WorkerBuilder, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let (gate, noted) = (open.clone(), effects.clone());
    let handler = move |ctx: StepContext, input: Value| {
        let (gate, noted) = (gate.clone(), noted.clone());
        async move {
            noted.add(format!("{} at attempt {}, token {}", ctx.step(), ctx.attempt(), ctx.fencing_token()));
            if gate.load(Ordering::SeqCst) {
                Ok(input)
            } else {
                Err(StepError::retry("the gate is closed").code("closed"))
            }
        }
    };
    (simple_worker(db, effects).handler("gate", handler), open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_goes_on_from_its_failed_steps() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let (builder, open) = gated(&db, &effects);
        let worker = db.spawn(builder);
        let flow = Flow::new("f", 1)
            .step(Step::new("first", "note"))
            .step(Step::new("gate", "gate").after("first").retry(Retry::fixed(2, Duration::ZERO)))
            .step(Step::new("each", "note").after("gate").for_each("$.input.items").window(2))
            .step(Step::new("last", "note").after("each").when("$.states.gate == \"completed\""));
        // The condition looks at a step further up: the order between makes that right.
        let run = start(&client, &flow, &input()).await;
        assert_eq!(ended(&run).await.state.as_str(), "failed");
        assert_eq!(client.dead_letters(&DeadLetterFilter::of("")).await.unwrap().len(), 1);
        open.store(true, Ordering::SeqCst);
        run.retry().await.unwrap();
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        assert_eq!(effects.count("first"), 1, "what was done is not done again");
        assert_eq!(
            effects.all()[1..4],
            ["gate at attempt 1, token 1", "gate at attempt 2, token 2", "gate at attempt 1, token 3"]
        );
        assert!(client.dead_letters(&DeadLetterFilter::of("")).await.unwrap().is_empty());
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_goes_on_also_within_a_fan_out() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let (builder, open) = gated(&db, &effects);
        let flow = Flow::new("f", 1)
            .step(Step::new("each", "gate").for_each("$.input").window(3).retry(once()))
            .step(Step::new("last", "note").after("each"));
        let run = start(&client, &flow, &json!((0..10).collect::<Vec<_>>())).await;
        run.stop().await.unwrap();
        run.retry().await.unwrap();
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 3);
        let worker = db.spawn(builder);
        assert_eq!(ended(&run).await.state.as_str(), "failed");
        open.store(true, Ordering::SeqCst);
        run.retry().await.unwrap();
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        assert!(states(&client, &run).await.iter().all(|(_, state)| *state == StepState::Completed));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_takes_over_what_was_done_before_its_step() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let worker = db.spawn(simple_worker(&db, &effects));
        let flow = Flow::new("f", 1)
            .step(Step::new("first", "note"))
            .step(Step::new("each", "note").after("first").for_each("$.input.items"))
            .step(Step::new("second", "note").after("each").input(json!({ "n": "$.input.id", "each": "$.steps.each" })))
            .step(Step::new("beside", "note").after("first"))
            .step(Step::new("last", "note").after("second").after("beside"));
        let run = start(&client, &flow, &input()).await;
        ended(&run).await;
        let changed = Payload::new(&json!({ "id": 8 })).unwrap();
        let fork = run.fork_with("second", Some(changed), OperationOptions::default().by("Ms Miller")).await.unwrap();
        assert_eq!(ended(&fork).await.state.as_str(), "completed");
        assert_eq!(fork.get().await.unwrap().forked_from, Some(run.id()));
        for (step, times) in [("first", 1), ("each", 3), ("beside", 1), ("second", 2), ("last", 2)] {
            assert_eq!(effects.count(step), times, "{step}");
        }
        let second: Value = client
            .steps(fork.id())
            .await
            .unwrap()
            .iter()
            .find(|s| s.name == "second")
            .unwrap()
            .output
            .as_ref()
            .unwrap()
            .read()
            .unwrap();
        assert_eq!(second, json!({ "n": 8, "each": ["a", "b", "c"] }));
        assert!(
            run.timeline().await.unwrap().iter().any(|e| e.kind == "forked" && e.actor.as_deref() == Some("Ms Miller"))
        );
        assert!(matches!(run.fork("nothing").await, Err(Error::NotFound(_))));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_found_retried_and_discarded_by_filter() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let (builder, open) = gated(&db, &effects);
        let worker = db.spawn(builder);
        for flow in ["a", "b"] {
            db.deploy_single(flow, Step::new("gate", "gate").retry(once())).await;
            let ids = client.start_many(flow, 0..5).await.unwrap().ids();
            for id in ids {
                ended(&client.run(id)).await;
            }
        }
        let all = DeadLetterFilter::of("");
        let dead = client.dead_letters(&all).await.unwrap();
        assert_eq!(dead.len(), 10);
        assert_eq!((dead[0].handler.as_deref(), dead[0].attempt), (Some("gate"), Some(1)));
        let of_b = DeadLetterFilter { flow: Some("b".into()), ..all.clone() };
        assert_eq!(
            client
                .dead_letters(&DeadLetterFilter { message: Some("%closed".into()), ..of_b.clone() })
                .await
                .unwrap()
                .len(),
            5
        );
        assert_eq!(
            client
                .dead_letters(&DeadLetterFilter { message: Some("%open".into()), ..of_b.clone() })
                .await
                .unwrap()
                .len(),
            0
        );
        assert_eq!(
            client
                .discard_dead_letters(&DeadLetterFilter { limit: 2, ..of_b.clone() }, Some("Ms Miller"))
                .await
                .unwrap(),
            2
        );
        open.store(true, Ordering::SeqCst);
        assert_eq!(client.retry_dead_letters(&of_b, None).await.unwrap(), 3);
        assert_eq!(
            client.retry_dead_letters(&DeadLetterFilter { flow: Some("a".into()), ..all.clone() }, None).await.unwrap(),
            5
        );
        crate::harness::eventually("the retried runs have completed", || async {
            db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await == 8
        })
        .await;
        assert!(client.dead_letters(&all).await.unwrap().is_empty());
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_some_codes_are_not_retried_and_details_stay_private() {
    with_database(|db| async move {
        let client = db.client().await;
        let (builder, _) = gated(&db, &Effects::default());
        let secret =
            |_: StepContext, _: Value| async move { Err::<(), _>(StepError::retry("no").detail("password 1234")) };
        let worker = db.spawn(builder.handler("secret", secret));
        let run = start(
            &client,
            &Flow::new("f", 1).step(Step::new("a", "gate").retry(Retry::fixed(5, Duration::ZERO).never_on("closed"))),
            &input(),
        )
        .await;
        ended(&run).await;
        assert_eq!(client.attempts(run.id()).await.unwrap().len(), 1);

        let run = start(&client, &Flow::new("g", 1).step(Step::new("a", "secret").retry(once())), &input()).await;
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert_eq!(error, json!({ "message": "no", "step": "a" }));
        let attempt: Value = client.attempts(run.id()).await.unwrap()[0].error.as_ref().unwrap().read().unwrap();
        assert_eq!(attempt["detail"], "password 1234");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_fails_and_what_it_did_is_undone() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let worker = db.spawn(simple_worker(&db, &effects));
        let flow = Flow::new("f", 1)
            .timeout(Duration::from_secs(3600))
            .step(Step::new("a", "echo").compensate("note"))
            .step(Step::new("b", "nobody").after("a"));
        let run = start(&client, &flow, &input()).await;
        crate::harness::eventually("a is done", || async {
            state_of(&client, &run, "a").await == StepState::Completed
        })
        .await;
        assert_eq!(db.value::<i64>("select longhaul.end_overdue_runs()").await, 0);
        db.execute("select longhaul.advance_clock('61 minutes'); select longhaul.end_overdue_runs()").await;
        let info = ended(&run).await;
        assert_eq!(info.state.as_str(), "failed");
        assert_eq!(info.error.unwrap().read::<Value>().unwrap()["code"], "timeout");
        assert_eq!(effects.all(), ["a.undo"]);

        // A deadline of a single run.
        db.deploy_single("g", Step::new("a", "nobody")).await;
        let urgent = longhaul::Start::new(&1).unwrap().deadline(Duration::from_secs(60));
        let run = client.start_with("g", urgent).await.unwrap();
        let other = client.start("g", &1).await.unwrap();
        db.execute("select longhaul.advance_clock('61 seconds'); select longhaul.end_overdue_runs()").await;
        assert_eq!(ended(&run).await.state.as_str(), "failed");
        assert_eq!(other.get().await.unwrap().state.as_str(), "running");
        worker.stop().await;
    })
    .await;
}
