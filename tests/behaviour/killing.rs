//! Workers in processes of their own, killed and frozen.

use std::{collections::HashMap, time::Duration};

use longhaul::{Retry, Step};
use serde_json::json;

use crate::harness::{Child, TestDb, eventually, with_database};

/// Which process ended each step, by the record that the handlers wrote: `end key token pid`.
fn ends(lines: &[String]) -> HashMap<String, Vec<(i32, u32)>> {
    let mut ends: HashMap<String, Vec<(i32, u32)>> = HashMap::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["end", key, token, pid] = words[..] {
            ends.entry(key.into()).or_default().push((token.parse().unwrap(), pid.parse().unwrap()));
        }
    }
    ends
}

async fn live_runs(db: &TestDb) -> i64 {
    db.value("select count(*) from longhaul.run where state = 'running'").await
}

async fn leases_of(db: &TestDb, child: &Child) -> i64 {
    let pid = child.pid();
    db.value(&format!(
        "select count(*) from longhaul.lease l join longhaul.worker w on w.id = l.worker_id where w.pid = {pid}"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_200_steps_run_loses_none() {
    with_database(|db| async move {
        let record = tempfile::NamedTempFile::new().unwrap();
        db.deploy_single("w", Step::new("a", "work").retry(Retry::exponential(3))).await;
        db.spawn_scheduler();
        let client = db.client().await;
        client.start_many("w", (0..300).map(|_| json!({ "ms": 1500 }))).await.unwrap();
        let mut victim = Child::start(&db, 200, record.path(), Duration::from_secs(2));
        eventually("200 steps run in one process", || async { leases_of(&db, &victim).await == 200 }).await;

        victim.signal(libc::SIGKILL);
        victim.wait().await;
        let _heir = Child::start(&db, 300, record.path(), Duration::from_secs(2));

        eventually("all runs have ended", || async { live_runs(&db).await == 0 }).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 300);
        let expired: i64 = db.value("select count(*) from longhaul.attempt where outcome = 'expired'").await;
        assert!(expired > 0 && expired <= 200, "{expired} attempts expired");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, expired, "nothing else went wrong");
        // Every step's last end is by the attempt that the database knows as the completing one.
        let lines = std::fs::read_to_string(record.path()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ends(&lines).len(), 300);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_past_its_lease_changes_nothing_when_it_wakes() {
    with_database(|db| async move {
        let record = tempfile::NamedTempFile::new().unwrap();
        db.deploy_single("w", Step::new("a", "work").retry(Retry::exponential(3))).await;
        db.spawn_scheduler();
        let client = db.client().await;
        let runs = client.start_many("w", (0..20).map(|_| json!({ "ms": 400 }))).await.unwrap().ids();
        let frozen = Child::start(&db, 20, record.path(), Duration::from_secs(1));
        eventually("it has begun all steps", || async { frozen.lines().len() == 20 }).await;

        frozen.signal(libc::SIGSTOP);
        eventually("its leases have expired", || async { leases_of(&db, &frozen).await == 0 }).await;
        let other_record = tempfile::NamedTempFile::new().unwrap();
        let other = Child::start(&db, 20, other_record.path(), Duration::from_secs(5));
        eventually("another worker has done the steps", || async { live_runs(&db).await == 0 }).await;
        let before: Vec<(String, i64)> = outputs(&db).await;
        frozen.signal(libc::SIGCONT);

        // It notices, registers anew, and works on.
        let fresh = client.start_many("w", (0..40).map(|_| json!({ "ms": 1 }))).await.unwrap().ids();
        eventually("it is registered under a new id", || async {
            let pid = frozen.pid();
            db.value::<i64>(&format!("select count(*) from longhaul.worker where pid = {pid}")).await == 2
        })
        .await;
        eventually("the new runs are done", || async { live_runs(&db).await == 0 }).await;
        assert_eq!(before, outputs_of(&db, &runs).await, "what the other one completed stays as it is");
        assert_eq!(fresh.len(), 40);
        let pid = frozen.pid();
        assert_eq!(
            db.value::<String>(&format!(
                "select state::text from longhaul.worker where pid = {pid} order by id limit 1"
            ))
            .await,
            "lost"
        );
        assert_eq!(ends(&other.lines()).values().flatten().filter(|(token, _)| *token == 2).count(), 20);
    })
    .await;
}

/// Which attempt completed each step, and on which worker.
async fn outputs(db: &TestDb) -> Vec<(String, i64)> {
    let connection = db.database.connection().await.unwrap();
    let sql =
        "select run_id::text || ' ' || attempt || ' ' || output::text, worker_id from longhaul.step order by run_id";
    connection.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn outputs_of(db: &TestDb, runs: &[uuid::Uuid]) -> Vec<(String, i64)> {
    let all = outputs(db).await;
    all.into_iter().filter(|(text, _)| runs.iter().any(|run| text.starts_with(&run.to_string()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_steps_finish_and_hands_the_rest_back() {
    with_database(|db| async move {
        let record = tempfile::NamedTempFile::new().unwrap();
        db.deploy_single("w", Step::new("a", "work").retry(Retry::never())).await;
        let client = db.client().await;
        client.start_many("w", (0..5).map(|_| json!({ "ms": 500 }))).await.unwrap();
        client.start_many("w", (0..5).map(|_| json!({ "ms": 600_000 }))).await.unwrap();
        let mut child = Child::start(&db, 10, record.path(), Duration::from_secs(5));
        eventually("it has begun all steps", || async { child.lines().len() == 10 }).await;

        child.signal(libc::SIGTERM);
        assert!(child.wait().await.success());

        let count = |sql: &'static str| db.value::<i64>(sql);
        assert_eq!(count("select count(*) from longhaul.run where state = 'completed'").await, 5);
        assert_eq!(count("select count(*) from longhaul.task where failures = 0 and attempt = 1").await, 5);
        assert_eq!(count("select count(*) from longhaul.attempt where outcome = 'released'").await, 5);
        assert_eq!(count("select count(*) from longhaul.worker where state = 'gone'").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_worker_at_once() {
    with_database(|db| async move {
        let record = tempfile::NamedTempFile::new().unwrap();
        db.deploy_single("w", Step::new("a", "work")).await;
        db.client().await.start("w", &json!({ "ms": 600_000 })).await.unwrap();
        let mut child = Child::start(&db, 1, record.path(), Duration::from_secs(5));
        eventually("it has begun", || async { child.lines().len() == 1 }).await;
        child.signal(libc::SIGTERM);
        eventually("it is draining", || async {
            db.value::<i64>("select count(*) from longhaul.worker where state = 'draining'").await == 1
        })
        .await;
        // One that comes within half a second of the first does not count.
        let status = loop {
            child.signal(libc::SIGTERM);
            if let Ok(status) = tokio::time::timeout(Duration::from_millis(50), child.wait()).await {
                break status;
            }
        };
        assert_eq!(status.code(), Some(130));
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 1, "its lease will expire");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_with_a_claim_under_way_does_not_begin_what_others_have_done() {
    with_database(|db| async move {
        let record = tempfile::NamedTempFile::new().unwrap();
        db.deploy_single("w", Step::new("a", "work").retry(Retry::exponential(3))).await;
        db.spawn_scheduler();
        let client = db.client().await;
        let frozen = Child::start(&db, 10, record.path(), Duration::from_secs(2));
        eventually("it listens", || async { db.value::<bool>("select exists (select from longhaul.listener)").await })
            .await;

        // Its claim is carried out while it is frozen; the answer waits for it.
        let mut connection = db.database.connection().await.unwrap();
        let barrier = connection.transaction().await.unwrap();
        barrier.batch_execute("lock table longhaul.lease in share row exclusive mode").await.unwrap();
        client.start_many("w", (0..5).map(|_| json!({ "ms": 0 }))).await.unwrap();
        db.until_blocked("claim").await;
        frozen.signal(libc::SIGSTOP);
        barrier.rollback().await.unwrap();
        eventually("it has claimed them", || async { leases_of(&db, &frozen).await == 5 }).await;
        let work = |_: longhaul::StepContext, _: serde_json::Value| async { Ok::<_, longhaul::StepError>(()) };
        let heir = db.spawn(db.worker().handler("work", work));
        db.until_all_completed().await;

        frozen.signal(libc::SIGCONT);
        eventually("it has registered anew", || async {
            let registered = format!("select count(*) from longhaul.worker where pid = {}", frozen.pid());
            db.value::<i64>(&registered).await == 2
        })
        .await;
        assert_eq!(frozen.lines(), Vec::<String>::new(), "it begins none of them");
        heir.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_twice_at_once_ends_a_worker_in_good_order() {
    with_database(|db| async move {
        let record = tempfile::NamedTempFile::new().unwrap();
        let mut child = Child::start(&db, 1, record.path(), Duration::from_secs(2));
        eventually("it listens", || async { db.value::<bool>("select exists (select from longhaul.listener)").await })
            .await;
        // As `timeout` sends it: to the process, and to its group.
        child.signal(libc::SIGTERM);
        child.signal(libc::SIGINT);
        assert!(child.wait().await.success());
        assert_eq!(db.value::<i64>("select count(*) from longhaul.worker where state = 'gone'").await, 1);
    })
    .await;
}
