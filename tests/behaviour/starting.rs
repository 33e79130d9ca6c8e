//! Starting runs: ids, transactions, delays, priorities, bulk.

use std::time::Duration;

use longhaul::{
    Error, Flow, Start, Step, StepContext, StepError,
    calls::{NewWorker, RunFilter, RunState},
};
use uuid::Uuid;

use crate::harness::{TestDb, with_database, within};

/// A worker that exists as a row only, for tests that play its part themselves.
pub async fn play_worker(db: &TestDb, handlers: &[&str]) -> i64 {
    let worker = NewWorker {
        tenant: "default",
        name: "played",
        host: "here",
        pid: 1,
        version: "0",
        queues: &["default"],
        handlers,
        slots: 100,
        lease: Duration::from_secs(60),
    };
    db.calls().await.register_worker(&worker).await.expect("register").worker
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_twice_under_one_id_starts_once() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let id = Uuid::now_v7();
        for _ in 0..2 {
            let run = client.start_with("one", Start::new(&1).unwrap().id(id)).await.unwrap();
            assert_eq!(run.id(), id);
        }
        assert_eq!(client.list(&RunFilter::default()).await.unwrap().len(), 1);

        // At the same time as well.
        let id = Uuid::now_v7();
        let starts = (0..20).map(|_| client.start_with("one", Start::new(&1).unwrap().id(id)));
        for outcome in futures::future::join_all(starts).await {
            outcome.unwrap();
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 2);

        // The id of a run of another flow is refused.
        db.deploy_single("other", Step::new("a", "h")).await;
        let error = client.start_with("other", Start::new(&1).unwrap().id(id)).await.unwrap_err();
        assert!(error.to_string().contains("is taken by a run of another flow"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_transaction_leaves_no_run_and_a_committed_one_leaves_it() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.execute("create table orders (id int)").await;
        let client = db.client().await;
        let mut connection = db.database.connection().await.unwrap();

        let transaction = connection.transaction().await.unwrap();
        transaction.execute("insert into orders values (1)", &[]).await.unwrap();
        let lost = client.start_in(&transaction, "one", Start::new(&1).unwrap()).await.unwrap();
        transaction.rollback().await.unwrap();
        assert!(matches!(client.get(lost).await, Err(Error::NotFound(_))));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 0);

        let transaction = connection.transaction().await.unwrap();
        transaction.execute("insert into orders values (2)", &[]).await.unwrap();
        let kept = client.start_in(&transaction, "one", Start::new(&2).unwrap()).await.unwrap();
        assert!(matches!(client.get(kept).await, Err(Error::NotFound(_))), "not before the commit");
        transaction.commit().await.unwrap();
        assert_eq!(client.get(kept).await.unwrap().state, RunState::Running);
        assert_eq!(db.value::<i32>("select id from orders").await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_run_is_pending_until_its_time_by_the_database_clock() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let month = Duration::from_secs(30 * 86400);
        let run = client.start_with("one", Start::new(&1).unwrap().delay(month)).await.unwrap();
        assert_eq!(run.get().await.unwrap().state, RunState::Pending);
        assert_eq!(db.value::<i64>("select longhaul.fire_timers()").await, 0);
        assert!(client.why(run.id(), "a").await.unwrap().contains("delayed start"));

        db.execute("select longhaul.advance_clock('30 days')").await;

        assert_eq!(db.value::<i64>("select longhaul.fire_timers()").await, 1);
        assert_eq!(db.value::<i64>("select longhaul.fire_timers()").await, 0);
        assert_eq!(run.get().await.unwrap().state, RunState::Running);
        let worker = play_worker(&db, &["h"]).await;
        assert_eq!(db.calls().await.claim(worker, &["default"], &[10]).await.unwrap().len(), 1);

        // A time in the past is at once.
        let past = chrono::Utc::now() - chrono::Duration::days(400);
        client.start_with("one", Start::new(&1).unwrap().at(past)).await.unwrap();
        assert_eq!(db.calls().await.claim(worker, &["default"], &[10]).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lower_priorities_go_first_and_within_one_the_oldest() {
    with_database(|db| async move {
        let client = db.client().await;
        // Two handlers share the queue: the order holds across them.
        client.deploy(&Flow::new("x", 1).step(Step::new("a", "h.x"))).await.unwrap();
        client.deploy(&Flow::new("y", 1).step(Step::new("a", "h.y"))).await.unwrap();
        let mut expected = Vec::new();
        for (flow, priority) in
            [("x", 5), ("y", -3), ("x", 0), ("y", 5), ("y", 0), ("x", -3), ("x", 1000), ("y", -1000)]
        {
            let run = client.start_with(flow, Start::new(&1).unwrap().priority(priority)).await.unwrap();
            expected.push((priority, run.id()));
        }
        expected.sort_by_key(|(priority, _)| *priority);
        let worker = play_worker(&db, &["h.x", "h.y"]).await;

        let calls = db.calls().await;
        let mut order = Vec::new();
        for _ in 0..8 {
            let claimed = calls.claim(worker, &["default"], &[1]).await.unwrap();
            assert_eq!(claimed.len(), 1);
            order.push(claimed[0].key.step.run_id);
        }
        assert_eq!(order, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_runs_are_one_call() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let started = db.client().await.start_many("one", 0..100_000).await.unwrap();
        assert_eq!((started.started.len(), started.refused.len()), (100_000, 0));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 100_000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_of_a_batch_is_refused_alone() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let inputs: Vec<serde_json::Value> = (0..500)
            .map(|n| {
                if n == 250 {
                    "\0".into()
                } else if n == 251 {
                    "x".repeat(2_000_000).into()
                } else {
                    n.into()
                }
            })
            .collect();
        let started = db.client().await.start_many("one", inputs).await.unwrap();
        assert_eq!(started.started.len(), 498);
        assert_eq!(started.refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [250, 251]);
        assert!(
            started.refused[0].1.contains("\\u0000") && started.refused[1].1.contains("limit"),
            "{:?}",
            started.refused
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_sql_as_well_one_bad_item_is_refused_alone() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        // No id, and a priority that no smallint holds.
        let refused: Vec<String> = db
            .database
            .connection()
            .await
            .unwrap()
            .query(
                "select refusal from longhaul.start_runs('default', 'one', null,
                   array[longhaul.new_run_id(), null, longhaul.new_run_id()], array['1', '2', '3']::jsonb[],
                   p_priorities => array[0, 0, 100000])",
                &[],
            )
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(refused, ["a run needs an id", "priority must be from -1000 to 1000, not 100000"]);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_refused_with_the_reason() {
    with_database(|db| async move {
        let client = db.client().await;
        let missing = client.start("nope", &1).await.unwrap_err();
        assert!(matches!(&missing, Error::NotFound(text) if text.contains("nope")), "{missing}");

        db.deploy_single("one", Step::new("a", "h")).await;
        let start = || Start::new(&1).unwrap();
        let v4 = Uuid::from_u128(0x6ba7_b810_9dad_4d1a_80b4_00c0_4fd4_30c8);
        for (start, reason) in [
            (start().version(9), "version 9"),
            (start().priority(1001), "priority must be from -1000 to 1000"),
            (start().name("x".repeat(201)), "more than 200 characters"),
            (start().id(v4), "does not carry a time within a day"),
        ] {
            let error = client.start_with("one", start).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 0);
        assert!(matches!(client.get(Uuid::now_v7()).await, Err(Error::NotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_can_be_started_by_sql_alone() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "double")).await;
        let worker =
            db.spawn(db.worker().handler("double", |_: StepContext, n: i64| async move { Ok::<_, StepError>(n * 2) }));
        let id: Uuid = db.value("select longhaul.start_run('one', '21')").await;
        assert_eq!(within("the run", db.client().await.run(id).output::<i64>()).await.unwrap(), 42);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let run = db.client().await.start("one", &1).await.unwrap();

        let other = longhaul::Client::connect(&db.config.clone().tenant("other").unwrap()).await.unwrap();
        assert!(matches!(other.get(run.id()).await, Err(Error::NotFound(_))));
        assert!(matches!(other.start("one", &1).await, Err(Error::NotFound(_))));
        assert!(other.list(&RunFilter::default()).await.unwrap().is_empty());
        assert!(other.flows().await.unwrap().is_empty());
        other.deploy(&Flow::new("one", 1).step(Step::new("b", "h"))).await.unwrap();

        // A worker of one tenant gets no step of another, although queue and handler have the same names.
        other.start("one", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let claimed = db.calls().await.claim(worker, &["default"], &[10]).await.unwrap();
        assert_eq!(claimed.iter().map(|c| c.key.step.run_id).collect::<Vec<_>>(), [run.id()]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged_by_key() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("one", Step::new("a", "h")).await;
        db.deploy_single("two", Step::new("a", "h")).await;
        let mut ones = client.start_many("one", 0..25).await.unwrap().ids();
        client.start_many("two", 0..5).await.unwrap();
        ones.sort();
        ones.reverse();
        let mut paged = Vec::new();
        let mut filter =
            RunFilter { flow: Some("one".into()), state: Some(RunState::Running), limit: 10, ..RunFilter::default() };
        loop {
            let page = client.list(&filter).await.unwrap();
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
            paged.extend(page.iter().map(|run| run.id));
        }
        assert_eq!(paged, ones);
        filter = RunFilter { state: Some(RunState::Failed), ..RunFilter::default() };
        assert!(client.list(&filter).await.unwrap().is_empty());
    })
    .await;
}
