//! Workers that can be looked at, and what they report.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{
    OutcomeEvent, Payload, Slots, Step, StepContext, StepError,
    calls::{ProgressValue, StepKey},
};
use serde_json::{Value, json};

use crate::harness::{eventually, with_database, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_last_progress_of_each_key_is_stored_also_at_shutdown() {
    with_database(|db| async move {
        let reporting = |ctx: StepContext, items: u64| async move {
            for n in 0..items {
                ctx.progress(n + 1, items, "at work").await?;
                ctx.report(&format!("item {}", n % 10), &n).await?;
            }
            Ok::<_, StepError>(())
        };
        db.deploy_single("f", Step::new("a", "reporting")).await;
        let client = db.client().await;
        let worker = db.spawn(db.worker().flush_every(Duration::from_secs(3600)).handler("reporting", reporting));
        let run = client.start("f", &10_000).await.unwrap();
        within("the run", run.wait(Duration::from_secs(60))).await.unwrap().unwrap();
        worker.stop().await;
        let progress = client.progress(run.id()).await.unwrap();
        assert_eq!(progress.len(), 11);
        assert_eq!(
            progress[0].value.read::<Value>().unwrap(),
            json!({ "done": 10_000, "of": 10_000, "message": "at work" })
        );
        assert_eq!(progress[10].value.read::<u64>().unwrap(), 9_999);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_arrives_late_replaces_nothing() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let run = db.client().await.start("f", &0).await.unwrap();
        let calls = db.calls().await;
        let key = (StepKey { run_id: run.id(), seq: 0 }, String::new());
        // Attempt, number of the call, value; and what is stored then.
        for (attempt, number, value, stored) in
            [(1, 1, 10, 10), (1, 3, 30, 30), (1, 2, 20, 30), (2, 1, 40, 40), (1, 4, 50, 40), (2, 1, 60, 60)]
        {
            let values = [(key.clone(), ProgressValue { attempt, value: Payload::new(&value).unwrap() })];
            calls.save_progress(&values, number).await.unwrap();
            let progress = db.client().await.progress(run.id()).await.unwrap();
            assert_eq!(progress[0].value.read::<i32>().unwrap(), stored, "attempt {attempt}, call {number}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_queues_come_from_what_workers_say() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "odd")).await;
        let odd = |_: StepContext, n: u32| async move { if n % 2 == 1 { Err(StepError::fail("odd")) } else { Ok(()) } };
        let worker =
            db.spawn(db.worker().flush_every(Duration::from_millis(20)).queue("default", 5).handler("odd", odd));
        db.client().await.start_many("f", 0..100).await.unwrap();
        eventually("the figures are there", || async {
            db.value::<i64>("select completed * 1000 + failed from longhaul.queue_figures where name = 'default'").await
                == 50_050
        })
        .await;
        let others: i64 = db
            .value("select claimed * 10000 + workers * 100 + slots from longhaul.queue_figures where name = 'default'")
            .await;
        assert_eq!(others, 1_000_105);
        let (queue, workers, figure) = db.calls().await.queue_figures("default").await.unwrap().remove(0);
        assert_eq!((queue.as_str(), workers, figure.completed, figure.failed), ("default", 1, 50, 50));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_see_status_and_outcomes_and_slow_ones_are_told_what_they_missed() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let worker =
            db.worker().queue("default", 20).handler("h", |_: StepContext, _: Value| async { Ok::<_, StepError>(()) });
        let worker = worker.build().unwrap();
        let observer = worker.observer();
        let (mut fast, mut slow) = (observer.subscribe(), observer.subscribe());
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
        let ids = db.client().await.start_many("f", 0..10_000).await.unwrap().ids();
        let seen = tokio::spawn(async move {
            let mut seen: HashMap<uuid::Uuid, usize> = HashMap::new();
            while seen.len() < 10_000 {
                match fast.next().await {
                    Some(OutcomeEvent::Outcome(report)) if report.outcome == "completed" => {
                        *seen.entry(report.key.step.run_id).or_default() += 1
                    }
                    // A worker that gets no processor for a while gives back what it had claimed ahead.
                    Some(OutcomeEvent::Outcome(report)) if report.outcome == "released" => {}
                    other => panic!("{other:?}"),
                }
            }
            seen
        });
        // A hundred observers ask all the time.
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let observer = observer.clone();
                tokio::spawn(async move {
                    loop {
                        assert!(observer.status().owned <= 10_000);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                })
            })
            .collect();
        let seen = within("all outcomes", seen).await.unwrap();
        assert!(seen.values().all(|times| *times == 1) && ids.iter().all(|id| seen.contains_key(id)));
        assert!(matches!(slow.next().await, Some(OutcomeEvent::Missed(missed)) if missed > 0));
        assert!(matches!(slow.next().await, Some(OutcomeEvent::Outcome(_))), "and then it goes on");
        eventually("the status has it", || async {
            observer.status().queues.first().is_some_and(|(_, figure)| figure.completed == 10_000)
        })
        .await;
        for observer in asking {
            observer.abort();
        }
        stop.cancel();
        task.await.unwrap().unwrap();
        assert!(observer.status().stopping);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_the_hook_is_called_for_each_run_in_flight() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "slow")).await;
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let slow = move |_: StepContext, _: Value| {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok::<_, StepError>(())
            }
        };
        let told: Arc<Mutex<Vec<uuid::Uuid>>> = Arc::default();
        let telling = told.clone();
        let hook = move |key: longhaul::calls::AttemptKey| {
            let telling = telling.clone();
            async move { telling.lock().unwrap().push(key.step.run_id) }
        };
        let worker = db.spawn(db.worker().queue("default", 8).at_shutdown(hook).handler("slow", slow));
        let mut ids = db.client().await.start_many("f", 0..5).await.unwrap().ids();
        eventually("all run", || async { begun.load(Ordering::SeqCst) == 5 }).await;
        worker.stop().await;
        let mut told = told.lock().unwrap().clone();
        told.sort();
        ids.sort();
        assert_eq!(told, ids);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_grow_with_demand_and_shrink_without() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "slow")).await;
        let slow = |_: StepContext, _: Value| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, StepError>(())
        };
        let worker = db
            .worker()
            .poll(Duration::from_millis(50))
            .queue("default", Slots::between(2, 64))
            .handler("slow", slow)
            .build()
            .unwrap();
        let observer = worker.observer();
        tokio::spawn(worker.run_until(std::future::pending()));
        let slots = || observer.status().queues.first().map_or(0, |(_, figure)| figure.slots);
        eventually("it begins at the floor", || async { slots() == 2 }).await;
        db.client().await.start_many("f", 0..2_000).await.unwrap();
        eventually("it grows", || async { slots() >= 32 }).await;
        within("all runs", db.until_all_completed()).await;
        eventually("it shrinks", || async { slots() == 2 }).await;
        for slots in [Slots::between(5, 4), 0.into()] {
            assert!(db.worker().handler("slow", crate::harness::nothing).queue("q", slots).build().is_err());
        }
    })
    .await;
}
