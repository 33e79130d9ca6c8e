//! Floors: claims do not walk over what was taken before, and nothing below a floor is ever missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use longhaul::{Concurrency, Flow, Retry, Step, StepError, calls::ClaimedStep};
use serde_json::Value;

use crate::{
    fencing::{claim_one, ok},
    harness::{TestDb, eventually, with_database},
    starting::play_worker,
};

/// Raises the floor of the only lane until it is above all that was put there so far and taken since.
async fn raise(db: &TestDb) {
    let now: i64 = db.value("select longhaul.ready_position()").await;
    eventually("the floor is raised", || async {
        db.execute("select longhaul.mark_horizon()").await;
        db.execute("select longhaul.raise_floors(array(select id from longhaul.lane))").await;
        db.value::<i64>("select max(longhaul.floor_of(id)) from longhaul.lane").await >= now
    })
    .await;
}

async fn claim_all(db: &TestDb, worker: i64) -> Vec<ClaimedStep> {
    db.calls().await.claim(worker, &["default"], &[1000]).await.expect("claim")
}

async fn complete_all(db: &TestDb, worker: i64) -> usize {
    let claimed = claim_all(db, worker).await;
    let items: Vec<_> = claimed.iter().map(|c| (c.key, ok())).collect();
    assert!(db.calls().await.complete(worker, &items).await.unwrap().is_empty());
    claimed.len()
}

/// A step that was ready and taken, and a floor above it.
async fn taken_and_raised(db: &TestDb, worker: i64) {
    db.client().await.start("one", &0).await.unwrap();
    assert_eq!(complete_all(db, worker).await, 1);
    raise(db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_begin_at_the_floor() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        let connection = db.database.connection().await.unwrap();
        connection.batch_execute("begin isolation level repeatable read; select count(*) from longhaul.task").await.unwrap();
        db.client().await.start_many("one", 0..5000).await.unwrap();
        for _ in 0..5 {
            assert_eq!(complete_all(&db, worker).await, 1000);
        }
        raise(&db).await;
        // What the snapshot keeps is still in the index, but no longer in the way.
        let explained = |query: &str| format!("select count(*) from longhaul.task t where {query}");
        assert_eq!(connection.query_one(&explained("true"), &[]).await.unwrap().get::<_, i64>(0), 0);
        let buffers = async |from: &str| -> i64 {
            let reader = db.database.connection().await.unwrap();
            reader.batch_execute("set enable_seqscan = off; set enable_bitmapscan = off").await.unwrap();
            let plan: Value = reader
                .query_one(
                    &format!(
                        "explain (analyze, buffers, format json) select position from longhaul.task
                         where lane_id = 1 and priority = 0 and position >= {from} order by lane_id, priority, position limit 1"
                    ),
                    &[],
                )
                .await
                .unwrap()
                .get(0);
            plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap() + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap()
        };
        let (from_the_beginning, from_the_floor) = (buffers("0").await, buffers("longhaul.floor_of(1)").await);
        assert!(
            from_the_floor < 15 && from_the_beginning > 2 * from_the_floor,
            "{from_the_beginning} pages from the beginning, {from_the_floor} from the floor"
        );
        db.client().await.start("one", &1).await.unwrap();
        assert_eq!(complete_all(&db, worker).await, 1, "new steps stand above the floor");
        connection.batch_execute("commit").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_transaction_that_commits_late_is_not_missed() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        taken_and_raised(&db, worker).await;
        let late = db.database.connection().await.unwrap();
        late.batch_execute("begin; select longhaul.start_run('one')").await.unwrap();
        let position: i64 = db.value("select longhaul.ready_position()").await;
        for _ in 0..5 {
            db.client().await.start("one", &1).await.unwrap();
            assert_eq!(complete_all(&db, worker).await, 1);
            db.execute("select longhaul.mark_horizon(); select longhaul.raise_floors('{1}')").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(db.value::<i64>("select longhaul.floor_of(1)").await < position, "the floor waits for the transaction");
        // Also when it is old: it has written to task.
        db.execute("select longhaul.advance_clock('30 seconds'); select longhaul.mark_horizon(); select longhaul.raise_floors('{1}')").await;
        assert!(db.value::<i64>("select longhaul.floor_of(1)").await < position);
        late.batch_execute("commit").await.unwrap();
        assert_eq!(complete_all(&db, worker).await, 1);
        raise(&db).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_transaction_that_writes_elsewhere_does_not_keep_the_floor_down() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        let report = db.database.connection().await.unwrap();
        report.batch_execute("begin; create table public.report (n int)").await.unwrap();
        db.execute("select longhaul.mark_horizon(); select longhaul.advance_clock('30 seconds')").await;
        taken_and_raised(&db, worker).await;
        report.batch_execute("select longhaul.start_run('one'); commit").await.unwrap();
        assert_eq!(complete_all(&db, worker).await, 1, "what it starts now has a place of now");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_take_an_older_place_lower_the_floor() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;

        // A run that is resumed.
        let paused = client.start("one", &1).await.unwrap();
        paused.pause().await.unwrap();
        taken_and_raised(&db, worker).await;
        let resuming = db.database.connection().await.unwrap();
        resuming
            .batch_execute(&format!("begin; select longhaul.resume_run('default', '{}')", paused.id()))
            .await
            .unwrap();
        db.execute("select longhaul.mark_horizon(); select longhaul.raise_floors('{1}')").await;
        resuming.batch_execute("commit").await.unwrap();
        assert_eq!(claim_all(&db, worker).await.len(), 1, "the resumed step");

        // A timer that was due long ago.
        db.execute("select longhaul.start_run('one', p_delay => interval '60 s')").await;
        db.execute("select longhaul.advance_clock('61 seconds')").await;
        taken_and_raised(&db, worker).await;
        db.execute("select longhaul.fire_timers()").await;
        assert_eq!(claim_all(&db, worker).await.len(), 1, "the step whose delay is over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_of_a_key_and_fair_turns_are_found_below_the_floor() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("one", Step::new("a", "h")).await;
        db.deploy_single("keyed", Step::new("a", "h").concurrency(Concurrency::named("k", 1))).await;
        db.deploy_single("fair", Step::new("a", "h").fair("$.input", 1.0)).await;
        let worker = play_worker(&db, &["h"]).await;
        client.start_many("keyed", 0..2).await.unwrap();
        let first = claim_one(&db, worker).await;
        taken_and_raised(&db, worker).await;
        db.calls().await.complete(worker, &[(first.key, ok())]).await.unwrap();
        assert_eq!(complete_all(&db, worker).await, 1, "the second of the key");

        // A flood of one key takes turns far ahead; another key's turn lies before them.
        client.start_many("fair", vec![1; 50]).await.unwrap();
        assert_eq!(complete_all(&db, worker).await, 50);
        raise(&db).await;
        client.start_many("fair", vec![2; 3]).await.unwrap();
        assert_eq!(complete_all(&db, worker).await, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_priority_is_found_and_the_most_urgent_first() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        let mut expected = Vec::new();
        for round in 0..4 {
            for priority in [5, -7, 0, round * 10 - 3] {
                db.execute(&format!("select longhaul.start_run('one', '{priority}', p_priority => {priority})")).await;
                expected.push(priority);
            }
            if round % 2 == 0 {
                // Two stay, and hold their floors down.
                let claimed =
                    db.calls().await.claim(worker, &["default"], &[(expected.len() - 2) as i32]).await.unwrap();
                expected.sort();
                let inputs: Vec<i32> = claimed.iter().map(|c| c.input.as_str().parse().unwrap()).collect();
                assert_eq!(inputs, expected.drain(..inputs.len()).collect::<Vec<_>>());
            }
            db.execute("select longhaul.mark_horizon(); select longhaul.raise_floors('{1}')").await;
        }
        expected.sort();
        let inputs: Vec<i32> = claim_all(&db, worker).await.iter().map(|c| c.input.as_str().parse().unwrap()).collect();
        assert_eq!(inputs, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_below_its_floor_is_found_by_the_chore() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        taken_and_raised(&db, worker).await;
        db.client().await.start("one", &1).await.unwrap();
        // As if the server's clock had been set back.
        db.execute("update longhaul.task set position = longhaul.floor_of(1) - 5000000").await;
        assert_eq!(claim_all(&db, worker).await.len(), 0);
        let seen: i64 =
            db.value("select count(*) from longhaul.room_violations where violation like '%below the floor%'").await;
        assert_eq!(seen, 1);
        assert_eq!(db.value::<i64>("select longhaul.check_floors()").await, 1);
        assert_eq!(claim_all(&db, worker).await.len(), 1);
        assert_eq!(db.value::<i64>("select longhaul.check_floors()").await, 0);
    })
    .await;
}

/// A snapshot lists the transactions in progress below its end; those from its end on it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_beyond_the_snapshots_end_holds_the_horizon_back() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        for _ in 0..20 {
            let late = db.database.connection().await.unwrap();
            late.batch_execute("begin").await.unwrap();
            let position: i64 = late.query_one("select longhaul.ready_position()", &[]).await.unwrap().get(0);
            // The mark is this transaction's own: nobody may have completed after the one that is late.
            let raising = db.database.connection().await.unwrap();
            raising.batch_execute("begin; select longhaul.mark_horizon()").await.unwrap();
            let sql = "select longhaul.task_position(longhaul.horizon())";
            let horizon: Option<i64> = raising.query_one(sql, &[]).await.unwrap().get(0);
            assert!(horizon.is_none_or(|horizon| horizon < position), "{horizon:?} is not before {position}");
            raising.batch_execute("commit").await.unwrap();
            late.batch_execute("rollback").await.unwrap();
        }
    })
    .await;
}

/// A step that chance cannot fail for good.
fn flaky_step(name: &str) -> Step {
    Step::new(name, "flaky").retry(Retry::exponential(50))
}

/// Starters that commit late, handlers that fail and snooze, and floors that are raised as often as can be.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_while_floors_are_raised_all_the_time() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(flaky_step("a")).step(flaky_step("b").after("a"))).await.unwrap();
        db.spawn_scheduler();
        let calls = Arc::new(AtomicU32::new(0));
        let flaky = move |_: longhaul::StepContext, _: Value| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                match call % 7 {
                    0 => Err(StepError::retry_after(Duration::from_millis(30), "once more")),
                    1 => Err(StepError::snooze(Duration::from_millis(20))),
                    _ => Ok(()),
                }
            }
        };
        let workers: Vec<_> = (0..3)
            .map(|_| db.spawn(db.worker().handler("flaky", flaky.clone()).queue("default", 20)))
            .collect();
        let raising = tokio::spawn({
            let db = db.clone();
            async move {
                loop {
                    db.execute("select longhaul.mark_horizon(); select longhaul.raise_floors(array(select id from longhaul.lane) || '{0,-1}')").await;
                }
            }
        });
        let raised = || async { db.value::<Option<i64>>("select max(id) from longhaul.floor").await > Some(10) };
        let mut round = 0;
        while round < 20 || !raised().await {
            round += 1;
            let late = db.database.connection().await.unwrap();
            late.batch_execute(&format!("begin; select longhaul.start_run('one', '{round}') from generate_series(1, 5)")).await.unwrap();
            client.start_many("one", 0..50).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            late.batch_execute("commit").await.unwrap();
        }
        db.until_all_completed().await;
        raising.abort();
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}
