//! Whole flows on a private server, in the time of the test.

use std::time::Duration;

use longhaul_schema::{Flow, Retry, Step, calls::RunState};
use longhaul_testing::TestDatabase;
use longhaul_worker::{StepContext, StepError};

const DAY: Duration = Duration::from_secs(86_400);

async fn remind(ctx: StepContext, name: String) -> Result<String, StepError> {
    ctx.sleep("a month", DAY * 30).await?;
    Ok(format!("{name}, your trial ends today"))
}

async fn flaky(ctx: StepContext, _: String) -> Result<u32, StepError> {
    if ctx.attempt() < 3 { Err(StepError::retry("not yet")) } else { Ok(ctx.attempt()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn months_of_sleep_and_hours_of_backoff_pass_at_once() {
    let db = TestDatabase::new().await;
    let flow = Flow::new("trial", 1)
        .step(Step::new("remind", "remind"))
        .step(Step::new("flaky", "flaky").after("remind").retry(Retry::fixed(5, Duration::from_secs(3600))));
    db.client().deploy(&flow).await.unwrap();
    let worker = db.work(db.worker().handler("remind", remind).handler("flaky", flaky));
    let run = db.client().start("trial", &"Ada").await.unwrap();
    let before = db.client().database().calls().await.unwrap().clock().await.unwrap();

    let ended = db.run_to_end(&run).await.unwrap();
    assert_eq!(ended.state, RunState::Completed);
    assert_eq!(run.output::<u32>().await.unwrap(), 3);
    let after = db.client().database().calls().await.unwrap().clock().await.unwrap();
    assert!((after - before).to_std().unwrap() >= DAY * 30 + Duration::from_secs(7200));
    worker.stop().await.unwrap();
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_tests_know_nothing_of_each_other() {
    let (one, other) = (TestDatabase::new().await, TestDatabase::new().await);
    one.client().deploy(&Flow::new("trial", 1).step(Step::new("remind", "remind"))).await.unwrap();
    assert_eq!((one.client().flows().await.unwrap().len(), other.client().flows().await.unwrap().len()), (1, 0));
    one.close().await;
    other.close().await;
}
