//! Times that are set by operators and callers: schedules that change, deadlines that are counted anew, intervals beyond all bounds.

use serde_json::json;

use super::{chores, claim_one, deploy, fail, pass, start, state, worker};
use crate::harness::{TestDb, with_database};

async fn put_schedule(db: &TestDb, overlap: &str) {
    db.execute(&format!(
        "select longhaul.put_schedule('default', 's', '0 0 1 1 *', 'UTC', 'f', null, '{{}}', 'skip', '{overlap}', 0, null, null, longhaul.clock() + interval '1 hour')"
    ))
    .await;
}

async fn run_schedule(db: &TestDb) -> uuid::Uuid {
    db.value("select longhaul.run_schedule('default', 's')").await
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_ticks_begin_when_their_schedule_may_overlap_and_end_when_it_is_deleted() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        put_schedule(&db, "queue").await;
        run_schedule(&db).await;
        let queued = [run_schedule(&db).await, run_schedule(&db).await];
        chores(&db).await;
        assert_eq!(state(&db, queued[0]).await, "pending");
        put_schedule(&db, "allow").await;
        pass(&db, "2 seconds").await;
        for run in queued {
            assert_eq!(state(&db, run).await, "running");
        }
        put_schedule(&db, "queue").await;
        let (begun, queued) = (run_schedule(&db).await, run_schedule(&db).await);
        db.execute(&format!("select longhaul.start_pending_run('default', '{begun}')")).await;
        db.execute("select longhaul.delete_schedule('default', 's')").await;
        assert_eq!(state(&db, begun).await, "running", "somebody has begun it");
        assert_eq!(state(&db, queued).await, "cancelled", "nobody would ever begin it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_run_has_its_own_deadline_once_more() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        deploy(&db, "bounded", json!([{ "name": "a", "handler": "h" }]), json!({ "timeout": "3h" })).await;
        let worker = worker(&db).await;
        for flow in ["f", "bounded"] {
            let run: uuid::Uuid =
                db.value(&format!("select longhaul.start_run('{flow}', p_deadline => '1 hour')")).await;
            let key = claim_one(&db, worker).await;
            pass(&db, "59 minutes").await;
            fail(&db, worker, &[key]).await;
            // Before its time has passed, and after.
            for wait in ["30 seconds", "2 hours"] {
                pass(&db, wait).await;
                db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
                pass(&db, "59 minutes").await;
                assert_eq!(state(&db, run).await, "running");
                pass(&db, "2 minutes").await;
                assert_eq!(state(&db, run).await, "failed");
            }
        }
        // One that was never begun.
        let run: uuid::Uuid = db.value("select longhaul.create_run('f', p_deadline => '1 hour')").await;
        db.execute(&format!(
            "select longhaul.stop_run('default', '{run}'); select longhaul.retry_run('default', '{run}')"
        ))
        .await;
        pass(&db, "61 minutes").await;
        assert_eq!(state(&db, run).await, "failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_that_cannot_be_counted_with_are_refused() {
    with_database(|db| async move {
        start_one(&db).await;
        let connection = db.database.connection().await.unwrap();
        for call in [
            "set_chore_interval('retention', 5000000000000000)",
            "set_chore_interval('retention', null)",
            "limit_queue('default', 'default', p_breaker_failures => 1, p_breaker_pause => '293000 years')",
            "limit_queue('default', 'default', p_rate_limit => 1, p_rate_per => '293000 years')",
        ] {
            let error = connection.query(&format!("select longhaul.{call}"), &[]).await.unwrap_err();
            assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("LH001"), "{call}: {error:?}");
        }
    })
    .await;
}

async fn start_one(db: &TestDb) {
    deploy(db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
    start(db, "f", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_to_be_tried_again_is_tried_when_the_clock_was_set_back() {
    with_database(|db| async move {
        start_one(&db).await;
        put_schedule(&db, "allow").await;
        chores(&db).await;
        db.execute("select longhaul.postpone_schedule(id, longhaul.clock(), 'a full disk') from longhaul.schedule")
            .await;
        pass(&db, "-3 hours").await;
        let due = "select count(*) from longhaul.due_schedules(10, true)";
        crate::harness::eventually("the tick is tried again", || async { db.value::<i64>(due).await == 1 }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_in_its_time_when_the_clock_was_set_back() {
    with_database(|db| async move {
        db.execute("select longhaul.acquire_lock('default', 'l', 'dead', 1000)").await;
        chores(&db).await;
        pass(&db, "-3 hours").await;
        let taken = "select acquired from longhaul.acquire_lock('default', 'l', 'other', 60000)";
        crate::harness::eventually("the lock is free", || async {
            chores(&db).await;
            db.value::<bool>(taken).await
        })
        .await;
    })
    .await;
}
