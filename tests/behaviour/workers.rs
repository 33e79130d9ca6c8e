//! Registrations: ids that never come again, leases by the worker's own clock, draining, leaving, and who is woken.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use longhaul::{Flow, Step, StepContext, StepError, Worker, calls::StepState};
use serde_json::Value;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::{
    harness::{TestDb, eventually, nothing, with_database, within},
    network::Network,
    starting::play_worker,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_worker_does_not_come_again_when_the_database_is_set_back() {
    with_database(|db| async move {
        let mut ids = HashSet::new();
        for _ in 0..50 {
            ids.insert(play_worker(&db, &["h"]).await);
            // As after a restore of a dump that knows nothing of it.
            db.execute("delete from longhaul.worker").await;
        }
        assert_eq!(ids.len(), 50);
        assert!(ids.iter().all(|id| (1 << 48..1 << 53).contains(id)), "a double can hold them: {ids:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_drained_from_afar_finishes_what_it_has_and_ends() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "held"))).await.unwrap();
        let gate = std::sync::Arc::new(tokio::sync::Notify::new());
        let held = gate.clone();
        let handler = move |_: StepContext, _: Value| {
            let held = held.clone();
            async move {
                held.notified().await;
                Ok::<_, StepError>(())
            }
        };
        let worker = db.worker().handler("held", handler).build().unwrap();
        let observer = worker.observer();
        let task = tokio::spawn(worker.run_until(std::future::pending()));
        let first = client.start("one", &1).await.unwrap();
        eventually("it is begun", || async { observer.status().owned == 1 }).await;

        db.calls().await.drain_worker(observer.status().worker).await.unwrap();
        eventually("it knows", || async { observer.status().stopping }).await;
        let second = client.start("one", &2).await.unwrap();
        gate.notify_one();
        let summary = within("its end", task).await.unwrap().unwrap();
        assert!(summary.drained);
        assert_eq!((summary.claimed, summary.settled, summary.lost), (1, 1, 0));
        within("the first run", first.output::<()>()).await.unwrap();
        assert_eq!(client.steps(second.id()).await.unwrap()[0].state, StepState::Ready);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.worker where state = 'gone'").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_stopped_because_its_run_ended_is_not_called_lost() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "hangs"))).await.unwrap();
        let hangs = |_: StepContext, _: Value| std::future::pending::<Result<(), StepError>>();
        let worker = db.spawn(db.worker().handler("hangs", hangs));
        let run = client.start("one", &1).await.unwrap();
        eventually("it is begun", || async { db.value::<i64>("select count(*) from longhaul.lease").await == 1 }).await;
        db.execute(&format!("select longhaul.stop_run('default', '{}')", run.id())).await;
        let summary = within("the shutdown", worker.stop()).await;
        assert_eq!((summary.cancelled, summary.lost), (1, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_leaves_although_the_database_is_silent() {
    with_database(|db| async move {
        let network = Network::start(&db.config).await.unwrap();
        let worker = Worker::builder(&network.config(&db.config)).without_chores().grace(Duration::from_secs(3600));
        let worker = db.spawn(worker.poll(Duration::from_millis(50)).handler("nothing", nothing));
        eventually("it listens", || async { db.value::<bool>("select exists (select from longhaul.listener)").await })
            .await;
        network.lose_answers(true);
        // Also while a claim is under way, which it is by now or soon.
        tokio::time::sleep(Duration::from_millis(100)).await;
        within("the shutdown", worker.stop()).await;
    })
    .await;
}

/// A session that hears what these workers are told.
async fn listen(
    db: &TestDb,
    workers: &[i64],
) -> (tokio_postgres::Client, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = db.config.connection.postgres.connect(NoTls).await.unwrap();
    let (sender, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification.channel().to_owned());
            }
        }
    });
    for worker in workers {
        let channel: String = db.value(&format!("select longhaul.wake_channel({worker})")).await;
        client.batch_execute(&format!("listen \"{channel}\"")).await.unwrap();
        db.execute(&format!("select longhaul.listen_for({worker}, '{{default}}')")).await;
    }
    (client, heard)
}

/// How often each worker is told of 200 starts.
async fn told(db: &TestDb, workers: &[i64]) -> HashMap<i64, usize> {
    let (client, mut heard) = listen(db, workers).await;
    for n in 0..200 {
        db.client().await.start("one", &n).await.unwrap();
    }
    // What was sent before this has arrived when it is there.
    client.batch_execute("listen finished; notify finished").await.unwrap();
    let mut told = HashMap::new();
    while let Some(channel) = heard.recv().await.filter(|channel| channel != "finished") {
        let id: i64 = channel.rsplit('_').next().unwrap().parse().unwrap();
        *told.entry(id).or_insert(0) += 1;
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_are_woken_evenly() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let mut workers = Vec::new();
        for _ in 0..4 {
            workers.push(play_worker(&db, &["h"]).await);
        }
        let told = told(&db, &workers).await;
        assert_eq!(told.values().sum::<usize>(), 200, "one for each start");
        // 50 each, give or take six standard deviations.
        assert!(workers.iter().all(|worker| (14..=86).contains(&told[worker])), "{told:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_whose_heartbeat_is_late_are_not_woken_in_place_of_living_ones() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let mut workers = Vec::new();
        for _ in 0..4 {
            workers.push(play_worker(&db, &["h"]).await);
        }
        // Their leases of a minute live on.
        db.execute(&format!(
            "update longhaul.worker set heartbeat_at = longhaul.clock() - interval '45 seconds' where id <> {}",
            workers[2]
        ))
        .await;
        let told = told(&db, &workers).await;
        assert_eq!(told, HashMap::from([(workers[2], 200)]));

        // When all are late, two are woken for each step.
        db.execute("update longhaul.worker set heartbeat_at = longhaul.clock() - interval '45 seconds'").await;
        assert_eq!(self::told(&db, &workers).await.values().sum::<usize>(), 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_long_line_of_idle_workers_everybody_who_knows_the_handler_is_found() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let mut workers = Vec::new();
        for number in 0..150 {
            workers.push(play_worker(&db, if number % 50 == 7 { &["h"] } else { &["other"] }).await);
        }
        let told = told(&db, &workers).await;
        assert_eq!(told.values().sum::<usize>(), 200);
        assert_eq!(told.len(), 3, "{told:?}");
    })
    .await;
}
