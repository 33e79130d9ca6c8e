//! Undoing what a failed run has completed.

use longhaul::{Flow, Step, StepContext, StepError};
use serde_json::{Value, json};

use super::{Effects, ended, once, simple_worker, start};
use crate::harness::{TestDb, with_database};

fn undoing_worker(db: &TestDb, effects: &Effects) -> longhaul::WorkerBuilder {
    let undone = effects.clone();
    simple_worker(db, effects).handler("undo", move |ctx: StepContext, given: Value| {
        let undone = undone.clone();
        async move {
            undone.add(format!("{} {} {}", ctx.step(), given["output"], given["error"]["step"]));
            if given["output"] == "stuck" { Err(StepError::fail("cannot be undone")) } else { Ok(()) }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn completed_steps_are_undone_in_reverse_order_and_the_run_has_failed_then() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let worker = db.spawn(undoing_worker(&db, &effects));
        let flow = Flow::new("f", 1)
            .step(Step::new("one", "echo").input("1").compensate("undo"))
            .step(Step::new("two", "echo").after("one").input("2").compensate("undo"))
            .step(Step::new("plain", "echo").after("two"))
            .step(Step::new("each", "echo").after("plain").for_each("$.input").window(1).compensate("undo"))
            .step(Step::new("three", "fail").after("each").compensate("undo").retry(once()))
            .step(Step::new("never", "note").after("three"));
        let run = start(&client, &flow, &json!(["x", "y"])).await;
        let info = ended(&run).await;
        assert_eq!(info.state.as_str(), "failed");
        assert!(info.compensated);
        let error: Value = info.error.unwrap().read().unwrap();
        assert_eq!(error["step"], "three");
        assert_eq!(
            effects.all(),
            [
                "each.undo \"y\" \"three\"",
                "each.undo \"x\" \"three\"",
                "two.undo \"2\" \"three\"",
                "one.undo \"1\" \"three\""
            ]
        );
        let refused = run.retry().await.unwrap_err().to_string();
        assert!(refused.contains("its completed steps were undone"), "{refused}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_is_a_dead_letter_and_the_rest_is_undone() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let worker = db.spawn(undoing_worker(&db, &effects));
        let flow = Flow::new("f", 1)
            .step(Step::new("one", "echo").input("1").compensate("undo"))
            .step(Step::new("two", "echo").after("one").input("stuck").compensate("undo"))
            .step(Step::new("three", "fail").after("two").retry(once()));
        let run = start(&client, &flow, &json!({})).await;
        assert_eq!(ended(&run).await.state.as_str(), "failed");
        assert_eq!(effects.all(), ["two.undo \"stuck\" \"three\"", "one.undo \"1\" \"three\""]);
        let dead: Vec<String> = client
            .dead_letters(&longhaul::calls::DeadLetterFilter::of(""))
            .await
            .unwrap()
            .into_iter()
            .map(|d| d.step)
            .collect();
        assert_eq!(dead.len(), 2);
        assert!(dead.contains(&"three".into()) && dead.contains(&"two.undo".into()), "{dead:?}");
        worker.stop().await;
    })
    .await;
}
