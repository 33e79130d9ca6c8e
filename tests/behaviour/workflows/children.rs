//! Child runs.

use longhaul::{Error, Flow, Start, Step, calls::StepState};
use serde_json::{Value, json};

use super::{Effects, ended, once, simple_worker, start, state_of};
use crate::harness::{eventually, with_database, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_goes_on_with_the_output_of_its_child() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        client
            .deploy(&Flow::new("child", 1).step(Step::new("a", "echo")).output(json!({ "seen": "$.steps.a" })))
            .await
            .unwrap();
        let flow = Flow::new("parent", 1)
            .step(Step::child("sub", "child").input(json!({ "n": "$.input.n" })))
            .step(Step::new("end", "echo").after("sub").input("$.steps.sub.seen.n"));
        let run = start(&client, &flow, &json!({ "n": 5 })).await;
        ended(&run).await;
        assert_eq!(run.output::<i64>().await.unwrap(), 5);
        let child =
            client.list(&longhaul::calls::RunFilter { parent: Some(run.id()), ..Default::default() }).await.unwrap();
        assert_eq!(child[0].flow, "child");

        // Three levels, and a child of which nothing is to be done.
        client.deploy(&Flow::new("empty", 1).step(Step::new("a", "echo").when("$.input.x == true"))).await.unwrap();
        let flow =
            Flow::new("grand", 1).step(Step::child("sub", "parent")).step(Step::child("empty", "empty").after("sub"));
        let run = start(&client, &flow, &json!({ "n": 6 })).await;
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_of_a_child_is_its_parents_and_names_it() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        client.deploy(&Flow::new("child", 1).step(Step::new("a", "fail").retry(once()))).await.unwrap();
        let run = start(&client, &Flow::new("parent", 1).step(Step::child("sub", "child")), &json!({})).await;
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert!(error["message"].as_str().unwrap().contains("is failed: this handler never succeeds"), "{error}");
        assert_eq!((&error["step"], &error["code"]), (&json!("sub"), &json!("hopeless")));
        assert!(error.get("detail").is_none(), "details stay with the attempt: {error}");

        let flow = Flow::new("goes-on", 1)
            .step(Step::child("sub", "child").or_continue())
            .step(Step::new("end", "echo").after("sub").input("$.states.sub"));
        let run = start(&client, &flow, &json!({})).await;
        ended(&run).await;
        assert_eq!(run.output::<String>().await.unwrap(), "failed");

        let run = start(&client, &Flow::new("lost", 1).step(Step::child("sub", "unknown")), &json!({})).await;
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert!(error["message"].as_str().unwrap().contains("there is no flow unknown"), "{error}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_travels_down_but_not_to_the_detached() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        client.deploy(&Flow::new("leaf", 1).step(Step::new("a", "nobody"))).await.unwrap();
        client.deploy(&Flow::new("middle", 1).step(Step::child("leaf", "leaf"))).await.unwrap();
        let flow =
            Flow::new("top", 1).step(Step::child("middle", "middle")).step(Step::child("free", "leaf").detached());
        let run = start(&client, &flow, &json!({})).await;
        assert_eq!(state_of(&client, &run, "free").await, StepState::Completed);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 2);
        run.stop().await.unwrap();
        eventually("the stop has arrived", || async {
            db.value::<i64>("select count(*) from longhaul.run where state = 'cancelled'").await == 3
        })
        .await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 1, "the detached one lives");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_child_is_lost_when_parent_or_child_are_busy() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        client.deploy(&Flow::new("child", 1).step(Step::new("a", "echo"))).await.unwrap();
        let run = start(&client, &Flow::new("parent", 1).step(Step::child("sub", "child")), &json!({})).await;

        // Somebody holds the parent while its child ends: the child's worker does not wait for that.
        let mut holder = db.database.connection().await.unwrap();
        let transaction = holder.transaction().await.unwrap();
        transaction.execute("select from longhaul.run where id = $1 for update", &[&run.id()]).await.unwrap();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let child =
            client.list(&longhaul::calls::RunFilter { parent: Some(run.id()), ..Default::default() }).await.unwrap()[0]
                .id;
        within("the child ends", client.run(child).wait(std::time::Duration::from_secs(30))).await.unwrap().unwrap();
        assert_eq!(run.get().await.unwrap().state.as_str(), "running");
        transaction.rollback().await.unwrap();
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.notice").await, 0);

        // The same with the child, while the parent is stopped.
        worker.stop().await;
        let run = client.start("parent", &1).await.unwrap();
        let child =
            client.list(&longhaul::calls::RunFilter { parent: Some(run.id()), ..Default::default() }).await.unwrap()[0]
                .id;
        let transaction = holder.transaction().await.unwrap();
        transaction.execute("select from longhaul.run where id = $1 for update", &[&child]).await.unwrap();
        within("the stop does not wait", run.stop()).await.unwrap();
        transaction.rollback().await.unwrap();
        assert_eq!(ended(&client.run(child)).await.state.as_str(), "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_not_nested_without_end() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        client.deploy(&Flow::new("endless", 1).step(Step::child("self", "endless"))).await.unwrap();
        let run = client.start_with("endless", Start::new(&1).unwrap()).await.unwrap();
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert!(error["message"].as_str().unwrap().contains("nested more than 32 deep"), "{error}");
        assert!(matches!(run.stop().await, Err(Error::Refused(_))));
    })
    .await;
}
