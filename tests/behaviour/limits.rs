//! Queues that are paused or limited, keys of bounded concurrency, fair turns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use longhaul::{
    Concurrency, Error, Flow, Retry, Step, StepContext, StepError,
    calls::{QueueLimits, RunState, StepState},
};
use serde_json::{Value, json};

use crate::harness::{TestDb, eventually, with_database, within};

/// Counts what runs at once, by key.
#[derive(Clone, Default)]
struct Meter(Arc<Mutex<HashMap<String, (usize, usize)>>>);

impl Meter {
    async fn measure(self, key: String, time: Duration) -> Result<(), StepError> {
        {
            let mut keys = self.0.lock().unwrap();
            let (now, most) = keys.entry(key.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        tokio::time::sleep(time).await;
        self.0.lock().unwrap().get_mut(&key).unwrap().0 -= 1;
        Ok(())
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().values().map(|(_, most)| *most).max().unwrap_or(0)
    }
}

fn metering(db: &TestDb, meter: &Meter, time: Duration) -> longhaul::WorkerBuilder {
    let meter = meter.clone();
    db.worker()
        .lease(Duration::from_secs(60))
        .queue("default", 100)
        .handler("meter", move |_: StepContext, key: Value| meter.clone().measure(key.to_string(), time))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_from_a_paused_queue() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "meter")).await;
        let client = db.client().await;
        assert!(client.pause_queue("default", Some("Ms Miller")).await.unwrap());
        assert!(!client.pause_queue("default", None).await.unwrap());
        let worker = db.spawn(metering(&db, &Meter::default(), Duration::ZERO));
        let run = client.start("f", &1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(client.steps(run.id()).await.unwrap()[0].state, StepState::Ready);
        assert!(client.why(run.id(), "a").await.unwrap().contains("queue default is paused since"));
        assert!(client.resume_queue("default").await.unwrap());
        within("the run", run.wait(Duration::from_secs(30))).await.unwrap().unwrap();
        assert!(matches!(client.pause_queue("unknown", None).await, Err(Error::NotFound(_))));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_of_a_queue_run_than_may_over_all_workers_and_retries() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        client
            .deploy(
                &Flow::new("f", 1)
                    .step(Step::new("a", "meter"))
                    .step(Step::new("b", "flaky").after("a").retry(Retry::fixed(3, Duration::ZERO))),
            )
            .await
            .unwrap();
        client.limit_queue("default", &QueueLimits { max_running: Some(7), ..Default::default() }).await.unwrap();
        let meter = Meter::default();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let counting = meter.clone();
                let flaky = move |ctx: StepContext, _: Value| {
                    let counting = counting.clone();
                    async move {
                        counting.measure("1".into(), Duration::from_millis(2)).await?;
                        if ctx.attempt() < 2 { Err(StepError::retry("again")) } else { Ok(()) }
                    }
                };
                db.spawn(metering(&db, &meter, Duration::from_millis(2)).handler("flaky", flaky))
            })
            .collect();
        client.start_many("f", vec![1; 300]).await.unwrap();
        within("all runs", db.until_all_completed()).await;
        assert!((2..=7).contains(&meter.most()), "{}", meter.most());
        assert_eq!(
            db.value::<i32>("select running from longhaul.queue_limits").await,
            0,
            "and the count comes out even"
        );
        for worker in workers {
            worker.stop().await;
        }
        assert!(matches!(
            client.limit_queue("default", &QueueLimits { max_running: Some(0), ..Default::default() }).await,
            Err(Error::Invalid(_))
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_no_period_more_steps_begin_than_the_rate_allows() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "meter")).await;
        let client = db.client().await;
        db.spawn_scheduler();
        let period = Duration::from_millis(1000);
        client.limit_queue("default", &QueueLimits { rate: Some((40, period)), ..Default::default() }).await.unwrap();
        let workers: Vec<_> = (0..3).map(|_| db.spawn(metering(&db, &Meter::default(), Duration::ZERO))).collect();
        client.start_many("f", 0..150).await.unwrap();
        within("all runs", db.until_all_completed()).await;
        let most: i64 = db
            .value(
                "select max(n) from (select count(*) over (order by started_at range between current row and interval '999 milliseconds' following) as n
                 from longhaul.step) x",
            )
            .await;
        assert!((20..=40).contains(&most), "{most} in one period");
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_closes_the_queue_of_a_dead_provider_and_tries_again_one_at_a_time() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (is_up, counted) = (up.clone(), calls.clone());
        let provider = move |_: StepContext, _: Value| {
            let (is_up, counted) = (is_up.clone(), counted.clone());
            async move {
                use std::sync::atomic::Ordering::SeqCst;
                counted.fetch_add(1, SeqCst);
                if is_up.load(SeqCst) { Ok(()) } else { Err(StepError::defer_for(Duration::from_millis(10), "down")) }
            }
        };
        db.deploy_single("f", Step::new("a", "provider")).await;
        client
            .limit_queue(
                "default",
                &QueueLimits { breaker: Some((5, Duration::from_millis(400))), ..Default::default() },
            )
            .await
            .unwrap();
        let worker = db.spawn(db.worker().queue("default", 5).handler("provider", provider));
        client.start_many("f", 0..50).await.unwrap();
        let run = client.list(&longhaul::calls::RunFilter { limit: 1, ..Default::default() }).await.unwrap()[0].id;
        eventually("the breaker is open", || async {
            client.why(run, "a").await.unwrap().contains("the breaker of queue default is open")
        })
        .await;
        // What was claimed before may still come; from then on one step in each pause, by the database's clock.
        let (before, begun) = (calls.load(std::sync::atomic::Ordering::SeqCst), Instant::now());
        tokio::time::sleep(Duration::from_millis(1600)).await;
        let tried = calls.load(std::sync::atomic::Ordering::SeqCst) - before;
        let most = begun.elapsed().as_millis() as usize / 400 + 2 + 5;
        assert!(tried <= most, "{tried} calls while it is down, at most {most}");
        up.store(true, std::sync::atomic::Ordering::SeqCst);
        within("all runs", db.until_all_completed()).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_with_a_limit_of_two_are_never_exceeded() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        client.deploy(&Flow::new("f", 1).step(Step::new("a", "meter").concurrency(Concurrency::per_key("$.input", 2)))).await.unwrap();
        let meter = Meter::default();
        let workers: Vec<_> = (0..8).map(|_| db.spawn(metering(&db, &meter, Duration::from_millis(1)))).collect();
        client.start_many("f", (0..6_000).map(|n| n % 1000)).await.unwrap();
        within("all runs", db.until_all_completed()).await;
        assert!(meter.most() <= 2, "{}", meter.most());
        assert_eq!(db.value::<i64>("select count(*) from longhaul.gates where used <> 0").await, 0);
        // From the history as well: how many overlap with each step of the same key.
        let overlaps: i64 = db
            .value(
                "with taken as (select r.input as key, s.started_at, s.ended_at from longhaul.step s join longhaul.run r on r.id = s.run_id)
                 select coalesce(max(n), 0) from (
                   select (select count(*) from taken o where o.key = s.key and o.started_at <= s.started_at and o.ended_at > s.started_at) as n
                   from taken s where s.key in (select distinct key from taken order by key limit 50)) x",
            )
            .await;
        assert!(overlaps <= 2, "{overlaps}");
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_freed_by_failures_stops_pauses_and_lost_workers() {
    with_database(|db| async move {
        let client = db.client().await;
        let limited = |handler: &str| {
            Step::new("a", handler).retry(Retry::fixed(2, Duration::ZERO)).concurrency(Concurrency::named("one", 1))
        };
        client.deploy(&Flow::new("f", 1).step(limited("h"))).await.unwrap();
        let ids = client.start_many("f", 0..5).await.unwrap().ids();
        let ready = || async {
            // As a claim does.
            db.execute("select longhaul.admit(1000)").await;
            db.value::<i64>("select count(*) from longhaul.task").await
        };
        assert_eq!(ready().await, 1);
        assert!(
            client.why(ids[1], "a").await.unwrap().contains("its turn: one has 1 at a time"),
            "{}",
            client.why(ids[1], "a").await.unwrap()
        );
        // Stopped while it is ready.
        client.run(ids[0]).stop().await.unwrap();
        assert_eq!(ready().await, 1);
        // Paused while it is ready: the next one is let in, and it queues again when it goes on.
        client.run(ids[1]).pause().await.unwrap();
        assert_eq!(ready().await, 1);
        assert_eq!(db.value::<uuid::Uuid>("select run_id from longhaul.task").await, ids[2]);
        client.run(ids[1]).resume().await.unwrap();
        assert_eq!(ready().await, 1);
        // Paused while it is queued.
        client.run(ids[3]).pause().await.unwrap();
        client.run(ids[3]).resume().await.unwrap();
        // The worker dies; and the step fails for good.
        let worker = crate::starting::play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let key = calls.claim(worker, &["default"], &[10]).await.unwrap();
        assert_eq!(key.len(), 1);
        db.execute("update longhaul.worker set expires_at = longhaul.clock(); select longhaul.expire_leases()").await;
        assert_eq!(ready().await, 1, "of the dead worker's step and the others, one is in");
        let worker = crate::starting::play_worker(&db, &["h"]).await;
        let mut done = 0;
        while let Some(claimed) = calls.claim(worker, &["default"], &[10]).await.unwrap().first() {
            db.assert_rooms_are_sound().await;
            calls
                .end_attempts(
                    worker,
                    &[longhaul::calls::EndedAttempt {
                        key: claimed.key,
                        outcome: longhaul::calls::AttemptOutcome::Failed,
                        error: None,
                        retryable: done % 2 == 0,
                        delay: Some(Duration::ZERO),
                    }],
                )
                .await
                .unwrap();
            done += 1;
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'failed'").await, 4);
        assert_eq!(db.value::<i32>("select used from longhaul.gates").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_steps_blocked_behind_a_key_are_in_nobodys_way() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(&Flow::new("blocked", 1).step(Step::new("a", "meter").concurrency(Concurrency::named("one", 1))))
            .await
            .unwrap();
        db.deploy_single("free", Step::new("a", "meter")).await;
        client.start_many("blocked", 0..5_000).await.unwrap();
        let worker = crate::starting::play_worker(&db, &["meter"]).await;
        let calls = db.calls().await;
        assert_eq!(calls.claim(worker, &["default"], &[100]).await.unwrap().len(), 1);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.queued").await, 4_999);
        client.start_many("free", 0..100).await.unwrap();
        assert_eq!(
            calls.claim(worker, &["default"], &[1000]).await.unwrap().len(),
            100,
            "claims do not meet the blocked ones"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trickle_of_one_key_is_done_within_the_first_of_anothers_flood() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("f", 1).step(Step::new("a", "meter").fair("$.input.customer", 1.0))).await.unwrap();
        let customer = |name: &str, steps: usize| vec![json!({ "customer": name }); steps];
        client.start_many("f", customer("flood", 10_000)).await.unwrap();
        let trickle = client.start_many("f", customer("trickle", 10)).await.unwrap().ids();
        let worker = crate::starting::play_worker(&db, &["meter"]).await;
        let first = db.calls().await.claim(worker, &["default"], &[100]).await.unwrap();
        let done = first.iter().filter(|c| trickle.contains(&c.key.step.run_id)).count();
        assert_eq!(done, 10, "the ten are among the first 1 %");

        // Weights: of 100 turns, a key of weight 3 has three times those of weight 1.
        client.deploy(&Flow::new("g", 1).step(Step::new("a", "weighed").fair("heavy", 3.0))).await.unwrap();
        client.deploy(&Flow::new("h", 1).step(Step::new("a", "weighed").fair("light", 1.0))).await.unwrap();
        let heavy = client.start_many("g", 0..200).await.unwrap().ids();
        client.start_many("h", 0..200).await.unwrap();
        let worker = crate::starting::play_worker(&db, &["weighed"]).await;
        let turns = db.calls().await.claim(worker, &["default"], &[100]).await.unwrap();
        let heavy = turns.iter().filter(|c| heavy.contains(&c.key.step.run_id)).count();
        assert!((70..=80).contains(&heavy), "{heavy}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_pauses_and_stops_at_random_leave_every_count_right() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let flow = Flow::new("f", 1)
            .step(Step::new("a", "meter").concurrency(Concurrency::per_key("$.input", 1)))
            .step(Step::new("b", "meter").after("a").concurrency(Concurrency::named("few", 3)));
        client.deploy(&flow).await.unwrap();
        client.limit_queue("default", &QueueLimits { max_running: Some(5), ..Default::default() }).await.unwrap();
        let workers: Vec<_> =
            (0..3).map(|_| db.spawn(metering(&db, &Meter::default(), Duration::from_millis(1)))).collect();
        let ids = client.start_many("f", (0..300).map(|n| n % 20)).await.unwrap().ids();
        let started = Instant::now();
        let steering = ids.iter().enumerate().map(|(n, id)| {
            let run = client.run(*id);
            async move {
                tokio::time::sleep(Duration::from_millis(n as u64 % 97)).await;
                match n % 5 {
                    0 => _ = run.stop().await,
                    1 if run.pause().await.is_ok() => _ = run.resume().await,
                    _ => {}
                }
            }
        });
        futures::future::join_all(steering).await;
        eventually("all have ended", || async {
            db.value::<i64>("select count(*) from longhaul.run where open_steps > 0").await == 0
        })
        .await;
        assert!(started.elapsed() < Duration::from_secs(60));
        assert_eq!(db.value::<i32>("select running from longhaul.queue_limits").await, 0);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.gates where used <> 0").await, 0);
        let states: Vec<RunState> = client
            .list(&longhaul::calls::RunFilter { limit: 1000, ..Default::default() })
            .await
            .unwrap()
            .iter()
            .map(|r| r.state)
            .collect();
        assert!(states.iter().all(|s| s.is_final()));
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}
