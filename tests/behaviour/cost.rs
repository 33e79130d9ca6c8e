//! What a run costs the database, counted and not timed: transactions, WAL and notifications. The limits catch a regression; the
//! figures themselves are in docs/performance.md.

use longhaul::{Client, Config, Database, Flow, Step, StepContext, Worker, migrate};
use longhaul_ops::embedded::{ClusterOptions, temporary_folder};
use serde_json::Value;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{eventually, with_database},
    starting::play_worker,
};

const RUNS: usize = 10_000;

/// A server of its own: all others would be counted as well.
async fn counted(config: &Config, sql: &str) -> f64 {
    let (client, connection) = config.connection.postgres.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one(sql, &[]).await.unwrap().get(0)
}

const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0')::float8";
const TRANSACTIONS: &str =
    "select (xact_commit + xact_rollback)::float8 from pg_stat_database where datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_at_full_load_costs_few_transactions_and_little_wal() {
    let folder = temporary_folder().unwrap();
    // Without checkpoints, whose full pages would be counted; and without autovacuum.
    let options = ClusterOptions::new(folder.path()).set("max_wal_size", "4GB").set("autovacuum", "off");
    let mut cluster = options.start().await.unwrap();
    let config = cluster.config().unwrap();
    migrate::migrate(&Database::new(&config).unwrap()).await.unwrap();
    let client = Client::connect(&config).await.unwrap();
    client.deploy(&Flow::new("single", 1).step(Step::new("a", "nothing"))).await.unwrap();
    // The first ones prepare statements, and write whole pages.
    drain(&client, &config, 1000).await;

    let before = (counted(&config, WAL).await, counted(&config, TRANSACTIONS).await);
    drain(&client, &config, RUNS).await;
    let runs = RUNS as f64;
    let wal = (counted(&config, WAL).await - before.0) / runs;
    // Sessions tell what they counted when they end, or after a second.
    eventually("all transactions are counted", || async { counted(&config, TRANSACTIONS).await - before.1 > 20.0 })
        .await;
    let transactions = (counted(&config, TRANSACTIONS).await - before.1) / runs;
    println!("{wal:.0} bytes of WAL and {transactions:.4} transactions for a run");
    assert!(wal < 1450.0, "{wal} bytes of WAL for a run");
    assert!(transactions < 0.05, "{transactions} transactions for a run");
    cluster.stop().await;
}

async fn drain(client: &Client, config: &Config, runs: usize) {
    client.start_many("single", 0..runs).await.unwrap();
    let worker = Worker::builder(config)
        .without_chores()
        .handler("nothing", |_: StepContext, _: Value| async { Ok(()) })
        .queue("default", 1000)
        .build()
        .unwrap();
    let observer = worker.observer();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
    eventually("all are done", || async {
        observer.status().queues.first().is_some_and(|(_, figure)| figure.completed >= runs as i64)
    })
    .await;
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_notified_while_nobody_is_idle() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        let channel: String = db.value(&format!("select longhaul.wake_channel({worker})")).await;
        let (client, mut connection) = db.config.connection.postgres.connect(NoTls).await.unwrap();
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification.payload().to_owned());
                }
            }
        });
        client.batch_execute(&format!("listen \"{channel}\"")).await.unwrap();
        let mut count = async |runs: usize| {
            db.client().await.start_many("one", 0..runs).await.unwrap();
            // What was sent before this has arrived when it is answered.
            client.batch_execute(&format!("notify \"{channel}\", 'end'")).await.unwrap();
            let mut notifications = 0;
            while heard.recv().await.unwrap() != "end" {
                notifications += 1;
            }
            notifications
        };
        assert_eq!(count(1000).await, 0, "the worker does not ask");
        db.execute(&format!("select longhaul.listen_for({worker}, '{{default}}')")).await;
        let notifications = count(1000).await;
        assert!((1..=2).contains(&notifications), "{notifications} notifications, at most one for each call");
        db.execute(&format!("select longhaul.stop_listening({worker}, '{{default}}')")).await;
        assert_eq!(count(1000).await, 0);
    })
    .await;
}
