//! Nothing that is due is ever hidden, whatever put it where it stands.

use serde_json::json;

use super::{chores, claim, claim_one, complete, deploy, pass, signal, sleep, start, state, suspend, worker};
use crate::harness::{TestDb, eventually, with_database};

/// Raises the floors of timers and waits as far as they go.
async fn raise(db: &TestDb) {
    let now: i64 = db.value("select longhaul.task_position(longhaul.clock())").await;
    eventually("the floors are raised", || async {
        db.execute("select longhaul.mark_horizon()").await;
        db.execute("select longhaul.raise_floors('{0,-1,-2,-3}')").await;
        // They stay five seconds behind.
        db.execute("select longhaul.advance_clock('1 second')").await;
        db.value::<i64>("select longhaul.floor_of(-1)").await > now
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_waits_once_more_for_a_sleep_that_is_over_goes_on() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, vec![sleep("1", 3000), signal("2", "t")]).await;
        db.execute(&format!("select longhaul.signal_run('default', '{run}', 't')")).await;
        let key = claim_one(&db, worker).await;
        // The handler works for long, while other sleeps fire and the floor rises.
        pass(&db, "15 seconds").await;
        raise(&db).await;
        suspend(&db, worker, key, vec![sleep("1", 3000)]).await;
        chores(&db).await;
        claim_one(&db, worker).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeps_timers_and_steps_that_were_put_below_a_floor_are_found() {
    with_database(|db| async move {
        deploy(&db, "nap", json!([{ "name": "a", "sleep": "1s" }]), json!({})).await;
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        deploy(&db, "keyed", json!([{ "name": "a", "handler": "h", "concurrency": { "name": "n", "limit": 5 } }]), json!({})).await;
        let worker = worker(&db).await;
        // Lanes have floors once something was taken from them.
        start(&db, "f", json!({})).await;
        start(&db, "keyed", json!({})).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        complete(&db, worker, &keys).await;
        raise(&db).await;
        db.execute("select longhaul.raise_floors(array(select id from longhaul.lane))").await;
        let nap = start(&db, "nap", json!({})).await;
        db.execute("select longhaul.start_run('f', p_delay => '1 hour'); select longhaul.start_run('f'); select longhaul.start_run('keyed')").await;
        // Whatever put them there, and however far below.
        db.execute(
            "update longhaul.wait set due_at = due_at - interval '400 days';
             update longhaul.timer set fire_at = fire_at - interval '400 days';
             update longhaul.task set position = position - 40000000000000;
             update longhaul.queued set position = position - 40000000000000",
        )
        .await;
        pass(&db, "10 seconds").await;
        chores(&db).await;
        assert_eq!(state(&db, nap).await, "completed");
        assert_eq!(claim(&db, worker).await.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_hides_nothing_and_stops_no_chore() {
    with_database(|db| async move {
        deploy(&db, "nap", json!([{ "name": "a", "sleep": "1s" }]), json!({})).await;
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for back in ["40 seconds", "1 hour", "3 days"] {
            start(&db, "f", json!({})).await;
            let key = claim_one(&db, worker).await;
            complete(&db, worker, &[key]).await;
            raise(&db).await;
            db.execute("select longhaul.raise_floors(array(select id from longhaul.lane))").await;
            chores(&db).await;
            db.execute(&format!("select longhaul.advance_clock(-interval '{back}')")).await;
            let nap = start(&db, "nap", json!({})).await;
            start(&db, "f", json!({})).await;
            db.execute("select longhaul.start_run('f', p_delay => '1 second')").await;
            chores(&db).await;
            pass(&db, "2 seconds").await;
            assert_eq!(state(&db, nap).await, "completed", "{back}");
            let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
            assert_eq!(keys.len(), 2, "{back}");
            complete(&db, worker, &keys).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_worker_that_dies_before_the_clock_steps_back_expire_in_their_time() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let dead = worker(&db).await;
        start(&db, "f", json!({})).await;
        claim_one(&db, dead).await;
        chores(&db).await;
        // As a step of the server's clock does: advance_clock() takes living workers along.
        db.execute("update longhaul.setting set value = value - 86400000 where name = 'clock_offset_ms'").await;
        chores(&db).await;
        db.execute("update longhaul.setting set value = value + 61000 where name = 'clock_offset_ms'").await;
        chores(&db).await;
        let other = worker(&db).await;
        claim_one(&db, other).await;
    })
    .await;
}
