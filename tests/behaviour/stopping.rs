//! Stopping runs.

use std::time::Duration;

use longhaul::{Error, Flow, Payload, Start, Step, StepContext, StepError, calls::StepState};
use serde_json::Value;

use crate::{
    harness::{eventually, with_database, within},
    starting::play_worker,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_has_no_step_left_in_any_room_and_its_handlers_stop() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1)
            .step(Step::new("running", "hangs"))
            .step(Step::new("ready", "nobody"))
            .step(Step::new("blocked", "hangs").after("running"));
        client.deploy(&flow).await.unwrap();
        let (begun, ended) = (tokio_util::sync::CancellationToken::new(), tokio_util::sync::CancellationToken::new());
        let (begins, ends) = (begun.clone(), ended.clone());
        let hangs = move |_: StepContext, _: Value| {
            let (begins, ends) = (begins.clone(), ends.clone().drop_guard());
            async move {
                let _ends = ends;
                begins.cancel();
                std::future::pending::<Result<(), StepError>>().await
            }
        };
        // It is told by notification, and not by a heartbeat.
        let worker = db.worker().heartbeat(Duration::from_secs(600)).lease(Duration::from_secs(3600));
        let worker = db.spawn(worker.handler("hangs", hangs));
        let run = client.start("f", &1).await.unwrap();
        within("the handler begins", begun.cancelled()).await;

        run.stop().await.unwrap();

        within("the handler is stopped", ended.cancelled()).await;
        assert_eq!(run.get().await.unwrap().state.as_str(), "cancelled");
        let states: Vec<StepState> = client.steps(run.id()).await.unwrap().iter().map(|s| s.state).collect();
        assert_eq!(states, [StepState::Cancelled; 3]);
        worker.stop().await;

        let delayed = client.start_with("f", Start::new(&1).unwrap().delay(Duration::from_secs(3600))).await.unwrap();
        delayed.stop().await.unwrap();
        assert_eq!(db.value::<i64>("select count(*) from longhaul.timer").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_while_a_stop_waits_has_not_ended_before_it_began() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("f", 1).step(Step::new("asleep", "h")).step(Step::new("ready", "h"))).await.unwrap();
        let run = client.start("f", &1).await.unwrap();
        db.execute(
            "with asleep as (delete from longhaul.task where seq = 0 returning *)
             insert into longhaul.timer (run_id, fire_at, seq, attempt, failures, kind, lane_id, priority)
             select run_id, now() + interval '1 hour', seq, attempt, failures, 'retry', lane_id, priority from asleep",
        )
        .await;
        let mut connection = db.database.connection().await.unwrap();
        let barrier = connection.transaction().await.unwrap();
        barrier.execute("select from longhaul.timer for update", &[]).await.unwrap();
        let stop = tokio::spawn({
            let run = run.clone();
            async move { run.stop().await }
        });
        db.until_blocked("stop_run").await;
        let worker = play_worker(&db, &["h"]).await;
        let claimed = db.calls().await.claim(worker, &["default"], &[10]).await.unwrap();
        assert_eq!(claimed.len(), 1);
        barrier.rollback().await.unwrap();
        stop.await.unwrap().unwrap();

        let in_order = "
            select a.claimed_at <= a.ended_at and a.claimed_at <= s.ended_at and s.ended_at <= r.ended_at
            from longhaul.attempt a join longhaul.run r on r.id = a.run_id join longhaul.step s on s.run_id = a.run_id and s.seq = a.seq
            where a.outcome = 'cancelled'";
        assert!(db.value::<bool>(in_order).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_run_cannot_be_stopped_and_says_why() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let run = db.client().await.start("one", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let key = calls.claim(worker, &["default"], &[1]).await.unwrap()[0].key;
        calls.complete(worker, &[(key, Payload::null())]).await.unwrap();
        let before = run.get().await.unwrap().revision;
        let error = run.stop().await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(text) if text.contains("is completed and cannot be stopped")),
            "{error}"
        );
        assert_eq!(run.get().await.unwrap().revision, before);
        let nobody = db.client().await.run(uuid::Uuid::now_v7());
        assert!(matches!(nobody.stop().await, Err(Error::NotFound(_))));
        let other = longhaul::Client::connect(&db.config.clone().tenant("other").unwrap()).await.unwrap();
        assert!(matches!(other.run(run.id()).stop().await, Err(Error::NotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_racing_stops_and_a_completion_exactly_one_ends_the_run() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let worker = play_worker(&db, &["h"]).await;
        for _ in 0..20 {
            let run = client.start("one", &1).await.unwrap();
            let key = db.calls().await.claim(worker, &["default"], &[1]).await.unwrap()[0].key;
            let stops = futures::future::join_all((0..50).map(|_| run.stop()));
            let complete = async { db.calls().await.complete(worker, &[(key, Payload::null())]).await.unwrap() };
            let (stops, refused) = tokio::join!(stops, complete);
            let stopped = stops.iter().filter(|outcome| outcome.is_ok()).count();
            assert!(
                stops.iter().all(|outcome| !matches!(outcome, Err(e) if !matches!(e, Error::Refused(_)))),
                "{stops:?}"
            );
            assert_eq!(stopped + usize::from(refused.is_empty()), 1);
            let expected = if stopped == 1 { "cancelled" } else { "completed" };
            assert_eq!(run.get().await.unwrap().state.as_str(), expected);
            assert_eq!(run.get().await.unwrap().revision, 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_beside_claims_and_completions_leave_nothing_behind() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("two", 1).step(Step::new("a", "h")).step(Step::new("b", "h").after("a"))).await.unwrap();
        let work = |_: StepContext, _: Value| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, StepError>(())
        };
        let ids = client.start_many("two", 0..1_000).await.unwrap().ids();
        let workers = [0, 1].map(|_| db.spawn(db.worker().lease(Duration::from_secs(60)).handler("h", work)));
        let stops = ids.iter().step_by(3).map(|id| {
            let run = client.run(*id);
            async move { run.stop().await.is_ok() }
        });
        let stopped = futures::future::join_all(stops).await.into_iter().filter(|stopped| *stopped).count() as i64;
        eventually("all have ended", || async {
            db.value::<i64>("select count(*) from longhaul.run where open_steps > 0").await == 0
        })
        .await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'cancelled'").await, stopped);
        assert!(stopped > 0, "some were still live");
        let after: i64 = db
            .value("select count(*) from longhaul.step s join longhaul.run r on r.id = s.run_id where r.state = 'cancelled' and s.started_at > r.ended_at")
            .await;
        assert_eq!(after, 0, "no step of a stopped run was claimed after the stop");
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}
