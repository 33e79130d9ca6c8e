//! Schedules: each tick starts one run.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use longhaul::{Error, Missed, Overlap, Schedule, Scheduler, Step, schedules::upcoming};
use serde_json::{Value, json};

use crate::harness::{TestDb, eventually, with_database};

async fn ticks(db: &TestDb, outcome: &str) -> i64 {
    db.value(&format!("select count(*) from longhaul.schedule_tick where outcome = '{outcome}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_twenty_schedulers_of_which_some_are_killed_each_tick_starts_one_run() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        for n in 0..10 {
            client.schedule(&Schedule::new(format!("s{n}"), "* * * * * *", "f").input(&n).unwrap()).await.unwrap();
        }
        let spawn = || tokio::spawn(Scheduler::new(&db.config).unwrap().run_until(std::future::pending()));
        let mut schedulers: Vec<_> = (0..20).map(|_| spawn()).collect();
        // Longer on request: LONGHAUL_SCHEDULE_SECONDS=300.
        let seconds: u64 = std::env::var("LONGHAUL_SCHEDULE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(seconds * 250)).await;
            schedulers.remove(0).abort();
        }
        tokio::time::sleep(Duration::from_millis(seconds * 250)).await;
        for n in 0..10 {
            client.pause_schedule(&format!("s{n}")).await.unwrap();
        }
        let started = ticks(&db, "started").await;
        assert!(started >= 10 * (seconds as i64 - 2), "{started}");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, started, "one run for each tick");
        let gaps: i64 = db
            .value(
                "select count(*) from (select tick - lag(tick) over (partition by schedule_id order by tick) as gap from longhaul.schedule_tick) x
                 where gap <> interval '1 second'",
            )
            .await;
        assert_eq!(gaps, 0, "and no tick is left out");
        let metadata: Value = db.value("select metadata from longhaul.run order by id limit 1").await;
        assert!(metadata["schedule"].as_str().unwrap().starts_with('s') && metadata["tick"].is_string(), "{metadata}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_ticks_are_skipped_made_up_for_by_one_run_or_all_run() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        for (name, missed) in [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All)] {
            client.schedule(&Schedule::new(name, "0 * * * *", "f").missed(missed)).await.unwrap();
        }
        // Nobody looks for six hours and a bit.
        let first = client.schedules().await.unwrap()[0].next_at.unwrap();
        let ahead = (first - Utc::now() + TimeDelta::minutes(5 * 60 + 10)).num_seconds();
        db.execute(&format!("select longhaul.advance_clock('{ahead} seconds')")).await;
        db.spawn_scheduler();
        eventually("all have moved on", || async { client.schedules().await.unwrap().iter().all(|s| s.last_at.is_some()) }).await;
        let started = |name: &'static str| {
            let db = db.clone();
            async move {
                db.value::<i64>(&format!(
                    "select count(*) from longhaul.schedule_tick t join longhaul.schedule s on s.id = t.schedule_id where s.name = '{name}' and t.outcome = 'started'"
                ))
                .await
            }
        };
        assert_eq!((started("skip").await, started("once").await, started("all").await), (0, 1, 6));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_runs_are_skipped_or_queued() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let client = db.client().await;
        client.schedule(&Schedule::new("skip", "0 0 1 1 *", "f").overlap(Overlap::Skip)).await.unwrap();
        client.schedule(&Schedule::new("queue", "0 0 1 1 *", "f").overlap(Overlap::Queue)).await.unwrap();
        let first = client.run_schedule("skip").await.unwrap().expect("nothing runs yet");
        assert!(client.run_schedule("skip").await.unwrap().is_none());
        assert_eq!(ticks(&db, "skipped").await, 1);
        first.stop().await.unwrap();
        assert!(client.run_schedule("skip").await.unwrap().is_some());

        let first = client.run_schedule("queue").await.unwrap().unwrap();
        let second = client.run_schedule("queue").await.unwrap().unwrap();
        let third = client.run_schedule("queue").await.unwrap().unwrap();
        db.spawn_scheduler();
        for (before, after) in [(&first, &second), (&second, &third)] {
            assert_eq!(after.get().await.unwrap().state.as_str(), "pending");
            before.stop().await.unwrap();
            eventually("the next one begins", || async { after.get().await.unwrap().state.as_str() == "running" })
                .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_checked_changed_paused_and_deleted() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let client = db.client().await;
        for (schedule, reason) in [
            (Schedule::new("s", "61 * * * *", "f"), "field 1 (minute)"),
            (Schedule::new("s", "* * * * *", "f").zone("Mars/Base"), "is not a time zone"),
            (Schedule::new("s s", "* * * * *", "f"), "is not a name of a schedule"),
        ] {
            let error = client.schedule(&schedule).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid(text) if text.contains(reason)), "{error}");
        }
        assert!(matches!(client.schedule(&Schedule::new("s", "* * * * *", "g")).await, Err(Error::NotFound(_))));

        let hourly = Schedule::new("s", "0 * * * *", "f").zone("Europe/Berlin").jitter(Duration::from_secs(60));
        client.schedule(&hourly).await.unwrap();
        let before = client.schedules().await.unwrap().remove(0);
        assert_eq!(upcoming(&before, Utc::now(), 10).unwrap().len(), 10);
        client.schedule(&hourly.clone().input(&json!({ "n": 1 })).unwrap()).await.unwrap();
        let after = client.schedules().await.unwrap().remove(0);
        assert_eq!((before.id, before.next_at), (after.id, after.next_at), "what is due stays due");
        let ended = hourly.ends_at(Utc::now());
        client.schedule(&ended).await.unwrap();
        assert_eq!(client.schedules().await.unwrap()[0].next_at, None);
        assert!(client.pause_schedule("s").await.unwrap() && !client.pause_schedule("s").await.unwrap());
        assert!(client.resume_schedule("s").await.unwrap());
        client.run_schedule("s").await.unwrap().unwrap();
        client.delete_schedule("s").await.unwrap();
        assert!(matches!(client.run_schedule("s").await, Err(Error::NotFound(_))));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 1, "its runs stay");
    })
    .await;
}
