//! Steps that are done for each item of a list.

use longhaul::{Flow, Step, StepContext, StepError, calls::StepState};
use serde_json::{Value, json};

use super::{Effects, ended, simple_worker, start, state_of};
use crate::harness::{eventually, with_database};

fn fan(name: &str) -> Flow {
    Flow::new(name, 1)
        .step(Step::new("list", "echo"))
        .step(Step::new("each", "double").for_each("$.steps.list.items").after("list"))
        .step(Step::new("sum", "sum").after("each"))
}

async fn double(_: StepContext, item: i64) -> Result<i64, StepError> {
    Ok(item * 2)
}

async fn sum(ctx: StepContext, _: Value) -> Result<i64, StepError> {
    Ok(ctx.output::<Vec<i64>>("each").await?.iter().sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_done_once_and_the_results_come_in_order() {
    with_database(|db| async move {
        let client = db.client().await;
        let builder = simple_worker(&db, &Effects::default()).handler("double", double).handler("sum", sum);
        let worker = db.spawn(builder);
        for items in [0, 1, 250] {
            let run = start(&client, &fan("fan"), &json!({ "items": (0..items).collect::<Vec<i64>>() })).await;
            assert_eq!(ended(&run).await.state.as_str(), "completed");
            assert_eq!(run.output::<i64>().await.unwrap(), (0..items).map(|n| n * 2).sum::<i64>());
            let page = db.calls().await.item_outputs(run.id(), "each", 100, 10).await.unwrap();
            let expected: Vec<i64> = (100..110).filter(|n| *n < items).map(|n| n * 2).collect();
            assert_eq!(
                page.iter().map(|i| i.output.as_ref().unwrap().read::<i64>().unwrap()).collect::<Vec<_>>(),
                expected
            );
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_items_live_than_the_window_has() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1).step(
            Step::new("each", "echo").for_each("$.input").window(7).input(json!({ "item": "$.item", "at": "$.index" })),
        );
        let run = start(&client, &flow, &json!((0..100).collect::<Vec<_>>())).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 7);
        assert_eq!(client.why(run.id(), "each").await.unwrap(), "Step each waits for: items (0 of 100 have ended).");
        assert_eq!(state_of(&client, &run, "each[6]").await, StepState::Ready);
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let watched = tokio::spawn({
            let db = db.clone();
            async move {
                let mut most = 0;
                while db.value::<i64>("select count(*) from longhaul.run where open_steps > 0").await > 0 {
                    most = most.max(
                        db.value::<i64>(
                            "select (select count(*) from longhaul.task) + (select count(*) from longhaul.lease)",
                        )
                        .await,
                    );
                }
                most
            }
        });
        ended(&run).await;
        assert!(watched.await.unwrap() <= 7);
        let output: Vec<Value> = run.output().await.unwrap();
        assert_eq!(output[99], json!({ "item": 99, "at": 99 }));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_a_hundred_thousand_items_is_done() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1)
            .step(Step::new("each", "double").for_each("$.input").window(2000))
            .step(Step::new("end", "echo").after("each"));
        let run = start(&client, &flow, &json!((0..100_000).collect::<Vec<i64>>())).await;
        assert!(run.get().await.unwrap().open_steps <= 2_002, "only the window is there");
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("double", double).lease(std::time::Duration::from_secs(60)).queue("more", 1));
        ended(&run).await;
        let wrong: i64 = db
            .value("select count(*) from longhaul.step where def is not null and (output #>> '{}')::int <> (seq - 32768) * 2")
            .await;
        assert_eq!(wrong, 0);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.step where def is not null and outcome = 'completed'").await, 100_000);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_items_fail_the_run_or_leave_a_gap() {
    with_database(|db| async move {
        let client = db.client().await;
        let odd = |_: StepContext, item: i64| async move {
            if item % 2 == 1 { Err(StepError::fail(format!("{item} is odd"))) } else { Ok(item) }
        };
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("odd", odd));
        let each = || Step::new("each", "odd").for_each("$.input");
        let run = start(&client, &Flow::new("fails", 1).step(each()), &json!([0, 1, 2])).await;
        let info = ended(&run).await;
        assert_eq!(info.state.as_str(), "failed");
        let error: Value = info.error.unwrap().read().unwrap();
        assert_eq!((&error["step"], &error["message"]), (&json!("each"), &json!("1 is odd")));

        let flow = Flow::new("goes-on", 1).step(each().or_continue()).step(Step::new("end", "echo").after("each"));
        let run = start(&client, &flow, &json!([0, 1, 2, 3, 4])).await;
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        let output: Vec<Option<i64>> = client
            .steps(run.id())
            .await
            .unwrap()
            .iter()
            .filter(|s| s.name.starts_with("each["))
            .map(|s| s.output.as_ref().map(|o| o.read().unwrap()))
            .collect();
        assert_eq!(output, [Some(0), None, Some(2), None, Some(4)]);

        let run = start(
            &client,
            &Flow::new("no-list", 1).step(Step::new("each", "odd").for_each("$.input.nothing")),
            &json!({}),
        )
        .await;
        let error: Value = run.get().await.unwrap().error.unwrap().read().unwrap();
        assert!(error["message"].as_str().unwrap().contains("found nothing, not a list"), "{error}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_can_be_a_child_run_and_a_stop_reaches_them_all() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(
                &Flow::new("child", 1)
                    .step(Step::new("a", "echo"))
                    .step(Step::new("b", "echo").after("a").input("$.steps.a")),
            )
            .await
            .unwrap();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let flow = Flow::new("f", 1).step(Step::child("each", "child").for_each("$.input").window(10));
        let run = start(&client, &flow, &json!((0..50).collect::<Vec<_>>())).await;
        db.spawn_scheduler();
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        assert_eq!(run.output::<Vec<i64>>().await.unwrap(), (0..50).collect::<Vec<_>>());
        worker.stop().await;

        let run = start(&client, &flow, &json!((0..50).collect::<Vec<_>>())).await;
        run.stop().await.unwrap();
        eventually("the children are stopped", || async {
            db.value::<i64>("select count(*) from longhaul.run where open_steps > 0").await == 0
        })
        .await;
        let live = longhaul::calls::RunFilter { parent: Some(run.id()), ..Default::default() };
        let children = client.list(&live).await.unwrap();
        assert_eq!(children.len(), 10);
        assert!(children.iter().all(|c| c.state.as_str() == "cancelled"), "{children:?}");
    })
    .await;
}
