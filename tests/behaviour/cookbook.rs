//! The queries of `ops/sql`: each names its question, and each runs on a database in which there is something to find.

use std::{collections::BTreeSet, path::Path, time::Duration};

use longhaul::{Concurrency, Flow, Retry, Start, Step, StepContext, StepError, calls::QueueLimits};
use serde_json::Value;

use crate::harness::{TestDb, eventually, with_database};

/// Completed, failing, sleeping, waiting, queued, paused and asked; a lock that is found taken; an old version that lives; a late schedule.
async fn fill(db: &TestDb) {
    let client = db.client().await;
    let steps = |version| {
        Flow::new("mixed", version)
            .step(Step::new("even", "even").retry(Retry::fixed(1, Duration::ZERO)))
            .step(Step::sleep("nap", Duration::from_secs(3600)).after("even"))
            .step(Step::new("keyed", "keyed").concurrency(Concurrency::named("one", 1)))
    };
    client.deploy(&steps(1)).await.unwrap();
    client
        .deploy(&Flow::new("flaky", 1).step(Step::new("a", "odd").retry(Retry::fixed(3, Duration::from_secs(3600)))))
        .await
        .unwrap();
    client.deploy(&Flow::new("simple", 1).step(Step::new("a", "even"))).await.unwrap();
    client
        .deploy(&Flow::new("asks", 1).step(Step::new("a", "even").approval(longhaul::Approval::ask("Pay it?"))))
        .await
        .unwrap();
    for number in 1..=6 {
        client.start("mixed", &number).await.unwrap();
        client.start("simple", &(2 * number)).await.unwrap();
    }
    client.start("flaky", &1).await.unwrap();
    client.start("asks", &1).await.unwrap();
    client.start_with("simple", Start::new(&1).unwrap().delay(Duration::from_secs(60))).await.unwrap();
    let even = |_: StepContext, number: Value| async move {
        if number.as_i64().unwrap_or(1) % 2 == 0 { Ok(()) } else { Err(StepError::fail("odd")) }
    };
    let odd = |_: StepContext, _: Value| async move { Err::<(), _>(StepError::retry("not yet")) };
    let worker = db.worker().queue("default", 4).handler("even", even).handler("odd", odd);
    let worker = db.spawn(worker);
    let settled = "select (select count(*) from longhaul.dead_letter) = 3 and (select count(*) from longhaul.timers where kind = 'retry') = 1
                     and (select count(*) from longhaul.run where state = 'completed') = 6";
    eventually("all has settled", || db.value::<bool>(settled)).await;
    worker.stop().await;
    client.deploy(&steps(2)).await.unwrap();
    client.start("mixed", &2).await.unwrap();
    client.limit_queue("default", &QueueLimits { max_running: Some(1), ..QueueLimits::default() }).await.unwrap();
    client.schedule(&longhaul::Schedule::new("hourly", "0 * * * *", "simple")).await.unwrap();
    db.execute(
        "select longhaul.acquire_lock('default', 'shared', 'one', 60000);
         select longhaul.acquire_lock('default', 'shared', 'two', 60000);
         update longhaul.schedule set next_at = longhaul.clock() - interval '1 hour';
         update longhaul.chore set next_at = longhaul.clock() - interval '1 hour';
         insert into longhaul.worker select 1, tenant, 'quiet', host, pid, version, 'active', 60000, started_at, longhaul.clock() - interval '50 seconds', longhaul.clock() + interval '10 seconds', null, slots, queues, handlers
         from longhaul.worker limit 1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_of_the_cookbook_names_its_question_and_finds_something() {
    with_database(|db| async move {
        fill(&db).await;
        let connection = db.database.connection().await.unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/sql");
        let mut questions = BTreeSet::new();
        let mut empty = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let (name, text) =
                (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&file).unwrap());
            let question = text.lines().next().unwrap_or_default().to_owned();
            assert!(
                question.starts_with("-- ") && question.contains('?'),
                "{name} does not begin with its question: {question}"
            );
            assert!(questions.insert(question), "{name} asks what another file asks");
            let statement = text.trim_end().trim_end_matches(';');
            let rows = connection.query(statement, &[]).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            if rows.is_empty() {
                empty.insert(name);
            }
        }
        assert!(questions.len() >= 15);
        // Nobody else uses the database: nothing can pin its horizon.
        assert!(empty.iter().all(|name| name == "pins.sql"), "these find nothing: {empty:?}");
    })
    .await;
}
