//! A handler that blocks its thread harms no other.

use std::time::{Duration, Instant};

use longhaul::{Flow, Retry, Step, StepContext, StepError, Worker, calls::RunState};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::{TestDb, eventually, with_database, within};

const LEASE: Duration = Duration::from_secs(1);

/// A worker on a runtime of two threads, in a thread of its own so that the test's runtime stays free.
fn worker_of_two_threads(db: &TestDb, stop: CancellationToken) -> std::thread::JoinHandle<longhaul::Summary> {
    let config = db.config.clone();
    std::thread::spawn(move || {
        let blocks = |_: StepContext, _: Value| async {
            let until = Instant::now() + LEASE * 4;
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok::<_, StepError>(())
        };
        let patient = |_: StepContext, _: Value| async {
            tokio::time::sleep(LEASE / 2).await;
            Ok::<_, StepError>(())
        };
        let worker = Worker::builder(&config)
            .without_chores()
            .heartbeat(LEASE / 4)
            .lease(LEASE)
            .handler("blocks", blocks)
            .handler("patient", patient)
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            tokio::spawn(worker.run_until(async move { stop.cancelled().await })).await.unwrap().unwrap()
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_block_every_thread_for_longer_than_the_lease_cost_no_other_step_an_attempt() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        for name in ["blocks", "patient"] {
            let step = Step::new("a", name).retry(Retry::never());
            client.deploy(&Flow::new(name, 1).step(step)).await.unwrap();
        }
        let stop = CancellationToken::new();
        let worker = worker_of_two_threads(&db, stop.clone());
        let innocent = client.start("patient", &1).await.unwrap();
        eventually("it is begun", || async { db.value::<i64>("select count(*) from longhaul.lease").await == 1 }).await;
        let runs: Vec<_> = client.start_many("blocks", 0..3).await.unwrap().ids();

        for run in runs.into_iter().chain([innocent.id()]) {
            let ended = within("a run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().expect("in time");
            assert_eq!(ended.state, RunState::Completed, "{:?}", ended.error);
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.worker").await, 1, "it was never given up");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, 0);
        stop.cancel();
        let summary = tokio::task::spawn_blocking(|| worker.join()).await.unwrap().unwrap();
        assert_eq!((summary.settled, summary.lost), (4, 0));
    })
    .await;
}
