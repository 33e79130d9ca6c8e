//! What an operator is told: what is overdue and why, who holds whom up, and what can never go on.

use longhaul::{Flow, Start, Step};

use crate::{
    harness::{eventually, with_database},
    starting::play_worker,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_overdue_is_named_with_the_reason() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("f", Step::new("a", "h")).await;
        client.deploy(&Flow::new("naps", 1).step(Step::sleep("a", std::time::Duration::from_secs(1)))).await.unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let delayed = client.start_with("f", Start::new(&1).unwrap().delay(hour)).await.unwrap();
        let naps = client.start("naps", &1).await.unwrap();
        let calls = db.calls().await;
        db.execute("select longhaul.advance_clock('2 hours')").await;
        let late = calls.overdue(100).await.unwrap();
        for (kind, run) in [("timer", delayed.id()), ("wait", naps.id())] {
            let found = late.iter().find(|late| late.kind == kind && late.run_id == Some(run)).unwrap();
            assert!(found.reason.contains("nobody does the chores"), "{found:?}");
        }
        assert!(late.iter().any(|late| late.kind == "chore" && late.item.as_deref() == Some("fire_timers")));
        for run in [delayed.id(), naps.id()] {
            let why = client.why(run, "a").await.unwrap();
            assert!(why.contains("its time came") && why.contains("is a scheduler running?"), "{why}");
        }
        db.spawn_scheduler();
        eventually("the scheduler has done it all", || async { calls.overdue(100).await.unwrap().is_empty() }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_is_named_with_when_its_step_goes_to_others_and_a_failed_step_with_its_error() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("f", Step::new("a", "h")).await;
        let run = client.start("f", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        db.calls().await.claim(worker, &["default"], &[1]).await.unwrap();
        db.execute("update longhaul.worker set lease_ms = 86400000, heartbeat_at = longhaul.clock() - interval '17 hours', expires_at = longhaul.clock() + interval '7 hours'").await;
        let why = client.why(run.id(), "a").await.unwrap();
        assert!(why.contains("process ") && why.contains("its last heartbeat came") && why.contains("goes to others at"), "{why}");
        db.execute("update longhaul.worker set expires_at = longhaul.clock() - interval '1 minute'").await;
        assert!(client.why(run.id(), "a").await.unwrap().contains("its lease was over"));
        assert!(db.calls().await.overdue(100).await.unwrap().iter().any(|late| late.kind == "lease"));
        db.execute(&format!(
            "update longhaul.worker set expires_at = longhaul.clock() + interval '1 minute';
             select longhaul.end_attempts({worker}, array['{}']::uuid[], array[0], array[1], array['failed']::longhaul.attempt_outcome[],
                                          array['{{\"message\": \"out of paper\"}}']::jsonb[], array[false], null)",
            run.id()
        ))
        .await;
        let why = client.why(run.id(), "a").await.unwrap();
        assert!(why.contains("is failed since") && why.contains("out of paper"), "{why}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pins_the_horizon_and_who_blocks_whom_is_named() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let run = db.client().await.start("f", &1).await.unwrap();
        let mut connection = db.database.connection().await.unwrap();
        let analyst = connection.transaction().await.unwrap();
        analyst.batch_execute("set local application_name = 'analyst'").await.unwrap();
        analyst.execute("select from longhaul.run for update", &[]).await.unwrap();
        let blocked = tokio::spawn(async move { run.pause().await });
        let calls = db.calls().await;
        eventually("the blocked call is named, with who holds it", || async {
            calls
                .blocked_calls()
                .await
                .unwrap()
                .iter()
                .any(|call| call.query.contains("pause") && call.held_by.contains("analyst"))
        })
        .await;
        let pins = calls.horizon_pins().await.unwrap();
        let pin = pins.iter().find(|pin| pin.name.contains("analyst")).unwrap();
        assert!(
            pin.kind == "session" && pin.state.as_deref() == Some("idle in transaction") && pin.seconds.is_some(),
            "{pin:?}"
        );
        assert!(calls.sees_all_sessions().await.unwrap());
        analyst.rollback().await.unwrap();
        blocked.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_go_on_is_a_violation() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("leaf", 1).step(Step::new("a", "nobody"))).await.unwrap();
        client.deploy(&Flow::new("parent", 1).step(Step::child("c", "leaf"))).await.unwrap();
        client.start("parent", &1).await.unwrap();
        let breaks = [
            ("delete from longhaul.task; delete from longhaul.run where parent_id is not null", "which is gone"),
            ("insert into longhaul.step (run_id, ended_at, seq, outcome) select run_id, now(), seq, 'completed' from longhaul.task; delete from longhaul.task; update longhaul.run set state = 'completed', open_steps = 0 where parent_id is not null", "nobody is to tell"),
            ("update longhaul.run set state = 'paused', paused_for = 'question' where parent_id is null", "none is open"),
            ("delete from longhaul.task", "live, not blocked, and in no room"),
            ("update longhaul.wait set kind = 'sleep'", "sleeps at"),
            ("update longhaul.run set open_steps = 7 where parent_id is null", "with 7 open steps, but 1 are live"),
            ("update longhaul.task set seq = 7", "no such step"),
        ];
        for (breaking, told) in breaks {
            let mut connection = db.database.connection().await.unwrap();
            let broken = connection.transaction().await.unwrap();
            broken.batch_execute(breaking).await.unwrap();
            let rows = broken.query("select violation from longhaul.room_violations", &[]).await.unwrap();
            let violations: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            assert!(violations.iter().any(|violation| violation.contains(told)), "{breaking}: {violations:?}");
            broken.rollback().await.unwrap();
        }
    })
    .await;
}
