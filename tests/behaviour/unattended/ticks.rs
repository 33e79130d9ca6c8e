//! Ticks: whole seconds, each fired once, none lost by what passes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use longhaul::{
    Missed, Overlap, Schedule, Step,
    calls::{RunState, ScheduleInfo},
};
use serde_json::{Value, json};

use crate::harness::{TestDb, eventually, with_database};

async fn count(db: &TestDb, outcome: &str) -> i64 {
    db.value(&format!("select count(*) from longhaul.schedule_tick where outcome = '{outcome}'")).await
}

/// Makes every schedule due at a whole second of the past.
async fn make_due(db: &TestDb, ago: &str) {
    db.execute(&format!(
        "update longhaul.schedule set next_at = date_trunc('second', longhaul.clock() - interval '{ago}')"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_are_whole_seconds_also_those_that_an_older_program_put() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        client.schedule(&Schedule::new("s", "0 3 * * *", "f")).await.unwrap();
        let next = client.schedules().await.unwrap()[0].next_at.unwrap();
        assert_eq!((next.second(), next.nanosecond()), (0, 0));
        db.execute("select longhaul.put_schedule('default','s','* * * * * *','UTC','f',null,'1','skip','allow',0,null,null,longhaul.clock())").await;
        db.spawn_scheduler();
        eventually("ticks fire", || async { count(&db, "started").await >= 2 }).await;
        let odd = "select count(*) from longhaul.schedule_tick where tick <> date_trunc('second', tick)";
        assert_eq!(db.value::<i64>(odd).await, 0);
        let metadata: Value = db.value("select metadata from longhaul.run order by id limit 1").await;
        let tick: DateTime<Utc> = serde_json::from_value(metadata["tick"].clone()).unwrap();
        assert_eq!(tick.nanosecond(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_asked_for_by_hand_take_no_ticks_place() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        client.schedule(&Schedule::new("s", "0 0 1 1 *", "f")).await.unwrap();
        let runs = futures::future::join_all((0..20).map(|_| client.run_schedule("s"))).await;
        assert!(runs.into_iter().all(|run| run.unwrap().is_some()), "twenty in one second are twenty");
        let whole = "select count(*) from longhaul.schedule_tick where tick = date_trunc('second', tick)";
        assert_eq!(db.value::<i64>(whole).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_loses_no_tick_and_holds_no_other_schedule_up() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        for (name, missed) in [("all", Missed::All), ("skip", Missed::Skip), ("good", Missed::Skip)] {
            client.schedule(&Schedule::new(name, "0 3 1 1 *", "f").missed(missed)).await.unwrap();
        }
        // What a full disk, a deadlock or a lock that somebody holds looks like.
        db.execute(
            "create function full_disk() returns trigger language plpgsql as $$
             begin
               if new.name <> 'good' then raise exception using errcode = '53100', message = 'no space left on device'; end if;
               return new;
             end $$;
             create trigger full_disk before insert on longhaul.run for each row execute function full_disk()",
        )
        .await;
        make_due(&db, "10 seconds").await;
        db.spawn_scheduler();
        let failing = |schedule: &ScheduleInfo| schedule.last_error.as_deref().is_some_and(|e| e.contains("no space"));
        eventually("two have been tried, the third has run", || async {
            client.schedules().await.unwrap().iter().all(|s| failing(s) == (s.name != "good"))
                && count(&db, "started").await == 1
        })
        .await;
        assert_eq!(count(&db, "failed").await, 0);
        // So late that a tick which nobody had tried would be missed.
        db.execute("drop trigger full_disk on longhaul.run; select longhaul.advance_clock('10 minutes')").await;
        eventually("all have run", || async { count(&db, "started").await == 3 }).await;
        assert_eq!((count(&db, "failed").await, count(&db, "missed").await), (0, 0));
        eventually("a success clears the error", || async {
            client.schedules().await.unwrap().iter().all(|s| s.last_error.is_none())
        })
        .await;
        db.execute("select longhaul.advance_clock('10 minutes')").await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 3, "each once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_start_is_a_failed_tick_that_is_shown_and_stops_nobody() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        db.deploy_single("gone", Step::new("a", "nobody")).await;
        let client = db.client().await;
        client.schedule(&Schedule::new("bad", "0 0 1 1 *", "gone")).await.unwrap();
        client.schedule(&Schedule::new("good", "0 0 1 1 *", "f")).await.unwrap();
        db.execute("update longhaul.schedule set flow = 'nothing' where name = 'bad'").await;
        make_due(&db, "1 second").await;
        db.spawn_scheduler();
        eventually("both have been fired", || async { count(&db, "started").await + count(&db, "failed").await == 2 })
            .await;
        let schedules = client.schedules().await.unwrap();
        let bad = schedules.iter().find(|s| s.name == "bad").unwrap();
        assert!(
            bad.failed_ticks == 1 && bad.last_error.as_deref().unwrap().contains("there is no flow nothing"),
            "{bad:?}"
        );
        let shown: String = db.value("select schedule || ': ' || error from longhaul.failed_ticks").await;
        assert!(shown.starts_with("bad: there is no flow nothing"), "{shown}");
        db.execute("update longhaul.schedule set flow = 'f' where name = 'bad'").await;
        client.run_schedule("bad").await.unwrap().unwrap();
        assert!(client.schedules().await.unwrap().iter().all(|s| s.last_error.is_none()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_could_have_put_harm_only_themselves() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        for name in ["good", "endless", "wrong", "zone", "early", "never"] {
            client.schedule(&Schedule::new(name, "* * * * * *", "f").missed(Missed::Once)).await.unwrap();
        }
        db.execute(
            "update longhaul.schedule set ends_at = 'infinity' where name = 'endless';
             update longhaul.schedule set cron = '99 * * * *' where name = 'wrong';
             update longhaul.schedule set zone = 'Mars/Base' where name = 'zone';
             update longhaul.schedule set starts_at = '-infinity', next_at = '-infinity' where name = 'early';
             update longhaul.schedule set next_at = 'infinity' where name = 'never'",
        )
        .await;
        db.spawn_scheduler();
        let started = |name: &'static str| {
            let db = db.clone();
            async move {
                db.value::<i64>(&format!(
                    "select count(*) from longhaul.schedule_tick t join longhaul.schedule s on s.id = t.schedule_id
                     where t.outcome = 'started' and s.name = '{name}'"
                ))
                .await
            }
        };
        eventually("the good one and those with ends that never come fire", || async {
            started("good").await > 1 && started("endless").await > 1 && started("early").await > 1
        })
        .await;
        let schedules = client.schedules().await.unwrap();
        assert_eq!(schedules.len(), 6, "each is listed");
        for (name, why) in [("wrong", "field 1 (minute)"), ("zone", "is not a time zone")] {
            let schedule = schedules.iter().find(|s| s.name == name).unwrap();
            assert!(
                schedule.next_at.is_none() && schedule.last_error.as_deref().unwrap().contains(why),
                "{schedule:?}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_schedules_due_at_once_are_fired_in_a_few_looks() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        db.execute(
            "select longhaul.put_schedule('default', 's' || n, '0 0 1 1 *', 'UTC', 'f', null, '1', 'all', 'allow', 0, null, null, longhaul.clock() + interval '1 day')
             from generate_series(1, 1000) n",
        )
        .await;
        make_due(&db, "1 second").await;
        db.spawn_scheduler();
        eventually("all have run", || async { count(&db, "started").await == 1000 }).await;
        let batches: i64 = db.value("select count(distinct xmin::text) from longhaul.schedule").await;
        assert!(batches <= 20, "{batches} transactions");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 1000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_runs_start_in_turn_with_their_whole_time_and_one_that_is_begun_by_hand_stops_nobody() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = longhaul::Flow::new("f", 1).step(Step::new("a", "nobody")).timeout(Duration::from_secs(1000));
        client.deploy(&flow).await.unwrap();
        client
            .schedule(&Schedule::new("s", "0 0 1 1 *", "f").overlap(Overlap::Queue).jitter(Duration::from_secs(5)))
            .await
            .unwrap();
        let mut runs = Vec::new();
        for _ in 0..4 {
            runs.push(client.run_schedule("s").await.unwrap().unwrap());
        }
        // The first may start up to its jitter later.
        db.execute("select longhaul.advance_clock('1 hour')").await;
        assert_eq!(db.value::<i64>("select longhaul.start_queued_ticks()").await, 0, "the first one lives");
        runs[1].start().await.unwrap();
        runs[2].pause().await.unwrap();
        runs[0].stop().await.unwrap();
        assert_eq!(db.value::<i64>("select longhaul.start_queued_ticks()").await, 1, "the second has had its turn");
        assert_eq!(db.value::<i64>("select longhaul.start_queued_ticks()").await, 0, "and lives");
        runs[1].stop().await.unwrap();
        assert_eq!(db.value::<i64>("select longhaul.start_queued_ticks()").await, 0, "the third is paused");
        runs[2].stop().await.unwrap();
        assert_eq!(db.value::<i64>("select longhaul.start_queued_ticks()").await, 1);
        assert_eq!(runs[3].get().await.unwrap().state, RunState::Pending, "the third was passed over");
        assert_eq!(db.value::<i64>("select longhaul.start_queued_ticks()").await, 1);
        assert_eq!(runs[3].get().await.unwrap().state, RunState::Running);
        let left: f64 = db
            .value(&format!(
                "select extract(epoch from at - longhaul.clock())::float8 from longhaul.deadline where run_id = '{}'",
                runs[3].id()
            ))
            .await;
        assert!((900.0..=1000.0).contains(&left), "{left}");
        assert_eq!(db.value::<i32>("select queued from longhaul.schedule").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_ticks_are_forgotten_in_small_parts_and_cost_nothing_meanwhile() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        client
            .schedule(&Schedule::new("s", "0 0 1 1 *", "f").input(&json!(1)).unwrap().overlap(Overlap::Skip))
            .await
            .unwrap();
        db.execute(
            "insert into longhaul.schedule_tick (schedule_id, tick, fired_at, outcome)
             select s.id, date_trunc('second', longhaul.clock()) - n * interval '1 hour', longhaul.clock(), 'skipped'
             from longhaul.schedule s, generate_series(1, 5000) n",
        )
        .await;
        // Both look at what they need, and not at the history.
        let connection = db.database.connection().await.unwrap();
        for call in ["longhaul.start_queued_ticks()", "longhaul.run_schedule('default', 's')"] {
            connection.batch_execute("select pg_stat_force_next_flush()").await.ok();
            let read = "select coalesce(seq_tup_read, 0) from pg_stat_xact_user_tables where relname = 'schedule_tick'";
            connection.batch_execute("begin").await.unwrap();
            connection.query(&format!("select {call}"), &[]).await.unwrap();
            let rows: i64 = connection.query_one(read, &[]).await.unwrap().get(0);
            connection.batch_execute("commit").await.unwrap();
            assert_eq!(rows, 0, "{call} reads no history");
        }
        let kept = TimeDelta::days(90).num_hours();
        assert_eq!(db.value::<i64>("select longhaul.forget_ticks()").await, 1000);
        while db.value::<i64>("select longhaul.forget_ticks()").await > 0 {}
        let left: i64 = db.value("select count(*) from longhaul.schedule_tick where outcome = 'skipped'").await;
        assert!((kept - 2..=kept + 2).contains(&left), "{left}");
    })
    .await;
}
