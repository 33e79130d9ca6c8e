//! Chores: done by whichever scheduler finds them due, one at a time.

use std::time::Duration;

use longhaul::Step;

use crate::harness::{eventually, with_database};

#[tokio::test(flavor = "multi_thread")]
async fn many_schedulers_do_each_chore_one_at_a_time() {
    with_database(|db| async move {
        // A chore that fails if it is done by two at once, or that would be seen to be.
        db.execute(
            "create table longhaul.visits (at timestamptz, pid int);
             create function longhaul.visit() returns bigint language plpgsql as $$
             begin
               perform pg_advisory_lock(42) where pg_try_advisory_xact_lock(4242) is not true;
               insert into longhaul.visits values (clock_timestamp(), pg_backend_pid());
               perform pg_sleep(0.02);
               return 0;
             end $$;
             alter function longhaul.visit() set search_path = longhaul;
             insert into longhaul.chore (name, interval_ms, next_at, description) values ('visit', 50, longhaul.clock(), 'test')",
        )
        .await;
        for _ in 0..5 {
            db.spawn_scheduler();
        }
        eventually("it was done often", || async { db.value::<i64>("select runs from longhaul.chore where name = 'visit'").await >= 20 }).await;
        let too_close: i64 = db
            .value("select count(*) from (select at - lag(at) over (order by at) as gap from longhaul.visits) v where gap < interval '20 ms'")
            .await;
        assert_eq!(too_close, 0, "two were at it at once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_chore_shows_why_and_keeps_nobody_from_the_others() {
    with_database(|db| async move {
        db.execute(
            "create function longhaul.broken() returns bigint language plpgsql as $$ begin raise exception 'it is broken'; end $$;
             insert into longhaul.chore (name, interval_ms, next_at, description) values ('broken', 20, longhaul.clock() - interval '1 day', 'test')",
        )
        .await;
        db.deploy_single("one", Step::new("a", "h")).await;
        db.spawn_scheduler();
        let start = longhaul::Start::new(&1).unwrap().delay(Duration::from_millis(50));
        db.client().await.start_with("one", start).await.unwrap();
        eventually("the timer fires all the same", || async { db.value::<i64>("select count(*) from longhaul.task").await == 1 }).await;
        eventually("it failed", || async { db.value::<i64>("select failures from longhaul.chore where name = 'broken'").await > 1 }).await;
        let error: String = db.value("select last_error from longhaul.chore where name = 'broken'").await;
        assert!(error.contains("it is broken"), "{error}");
        assert_eq!(db.calls().await.overdue_chores().await.unwrap(), ["broken"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_left_long_ago_are_forgotten() {
    with_database(|db| async move {
        let gone = crate::starting::play_worker(&db, &["h"]).await;
        let alive = crate::starting::play_worker(&db, &["h"]).await;
        db.calls().await.deregister_worker(gone).await.unwrap();
        assert_eq!(db.value::<i64>("select longhaul.forget_workers()").await, 0);
        db.execute("select longhaul.advance_clock('8 days')").await;
        assert_eq!(db.value::<i64>("select longhaul.forget_workers()").await, 1);
        assert_eq!(db.value::<i64>("select id from longhaul.worker").await, alive);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_change_how_often_a_chore_is_done() {
    with_database(|db| async move {
        let calls = db.calls().await;
        calls.set_chore_interval("fire_timers", Duration::from_secs(7)).await.unwrap();
        assert_eq!(db.value::<i64>("select interval_ms from longhaul.chore where name = 'fire_timers'").await, 7000);
        assert!(calls.set_chore_interval("nope", Duration::from_secs(1)).await.is_err());
        // An upgrade leaves it as it is.
        db.execute("select longhaul.define_chore('fire_timers', 200, 'again')").await;
        assert_eq!(db.value::<i64>("select interval_ms from longhaul.chore where name = 'fire_timers'").await, 7000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_machine_or_a_lock_puts_no_chore_off_for_long() {
    with_database(|db| async move {
        for (interval, took, pause) in [(200, 1, 0.2), (200, 100, 2.0), (200, 3000, 10.0), (200, 15000, 15.0), (60000, 3000, 60.0)] {
            let rest = format!("select extract(epoch from longhaul.chore_pause({interval}, {took}))::float8");
            assert_eq!(db.value::<f64>(&rest).await, pause, "{interval} {took}");
        }
        db.execute(
            "create function longhaul.blocked() returns bigint language plpgsql as $$
             begin
               if nextval('longhaul.tries') < 3 then raise exception using errcode = '55P03', message = 'somebody holds it'; end if;
               return 0;
             end $$;
             create sequence longhaul.tries;
             select longhaul.define_chore('blocked', 3600000, 'finds a lock at first')",
        )
        .await;
        db.spawn_scheduler();
        eventually("it is done although its next hour has not come", || async {
            db.value::<bool>("select failures = 2 and last_done is not null from longhaul.chore where name = 'blocked'").await
        })
        .await;
    })
    .await;
}
