//! Runs go from start to finish.

use longhaul::{Flow, Step, StepContext, StepError};

use crate::harness::{with_database, within};

async fn double(_: StepContext, number: i64) -> Result<i64, StepError> {
    Ok(number * 2)
}

async fn add_up(ctx: StepContext, number: i64) -> Result<i64, StepError> {
    let left: i64 = ctx.output("left").await?;
    let right: i64 = ctx.output("right").await?;
    Ok(number + left + right)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_passes_through_its_steps_and_gives_the_last_output() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("sum", 1)
            .step(Step::new("left", "double"))
            .step(Step::new("right", "double"))
            .step(Step::new("sum", "add_up").after("left").after("right"));
        client.deploy(&flow).await.unwrap();
        let worker = db.spawn(db.worker().handler("double", double).unwrap().handler("add_up", add_up).unwrap());

        let run = client.start("sum", &5).await.unwrap();

        assert_eq!(within("the run", run.output::<i64>()).await.unwrap(), 25);
        let summary = worker.stop().await;
        assert_eq!(summary.settled, 3);
    })
    .await;
}
