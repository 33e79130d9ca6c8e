//! Where two features meet: one bad item beside good ones, waits that lose a race, callers with open transactions, clocks that step
//! back. Steps are played by the calls of the database, so that each moment can be chosen.

mod bad_items;
mod busy_fleet;
mod busy_runs;
mod children;
mod deadlocks;
mod depth;
mod ended_runs;
mod fan_outs;
mod forgetting;
mod hidden;
mod isolation_levels;
mod questions;
mod reports;
mod times;

use longhaul::{
    Payload,
    calls::{AttemptKey, ClaimedStep, NewWait},
    connect::Connection,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{harness::TestDb, starting::play_worker};

/// Deploys a flow from the JSON of its steps, and of more settings.
async fn deploy(db: &TestDb, name: &str, steps: Value, more: Value) {
    let mut flow = json!({ "name": name, "version": 1, "steps": steps });
    flow.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let connection = db.database.connection().await.unwrap();
    connection
        .query("select * from longhaul.deploy('default', $1)", &[&flow])
        .await
        .unwrap_or_else(|e| panic!("{e:?}"));
}

async fn start(db: &TestDb, flow: &str, input: Value) -> Uuid {
    let connection = db.database.connection().await.unwrap();
    connection.query_one("select longhaul.start_run($1, $2)", &[&flow, &input]).await.unwrap().get(0)
}

async fn state(db: &TestDb, run: Uuid) -> String {
    db.value(&format!("select state::text from longhaul.runs where id = '{run}'")).await
}

/// Does what is due until nothing is; no chore may fail.
async fn chores(db: &TestDb) {
    let connection = db.database.connection().await.unwrap();
    for _ in 0..10_000 {
        let row = connection.query_one("select chore_name, failure from longhaul.run_chore()", &[]).await.unwrap();
        let failure: Option<String> = row.get(1);
        assert_eq!(failure, None, "chore {:?} failed", row.get::<_, Option<String>>(0));
        if row.get::<_, Option<String>>(0).is_none() {
            return;
        }
    }
    panic!("chores find something to do for ever");
}

/// Lets time pass, and the chores do what is due then.
async fn pass(db: &TestDb, time: &str) {
    db.execute(&format!("select longhaul.advance_clock('{time}')")).await;
    chores(db).await;
}

async fn claim(db: &TestDb, worker: i64) -> Vec<ClaimedStep> {
    db.calls().await.claim(worker, &["default"], &[1000]).await.unwrap()
}

async fn claim_one(db: &TestDb, worker: i64) -> AttemptKey {
    let claimed = claim(db, worker).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed[0].key
}

async fn complete(db: &TestDb, worker: i64, keys: &[AttemptKey]) {
    let items: Vec<_> = keys.iter().map(|key| (*key, Payload::new(&1).unwrap())).collect();
    let refused = db.calls().await.complete(worker, &items).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Fails attempts for good.
async fn fail(db: &TestDb, worker: i64, keys: &[AttemptKey]) {
    use longhaul::calls::{AttemptOutcome, EndedAttempt};
    let ended: Vec<_> = keys
        .iter()
        .map(|key| EndedAttempt {
            key: *key,
            outcome: AttemptOutcome::Failed,
            error: None,
            retryable: false,
            delay: None,
        })
        .collect();
    let refused = db.calls().await.end_attempts(worker, &ended).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
}

async fn suspend(db: &TestDb, worker: i64, key: AttemptKey, waits: Vec<NewWait>) {
    let refused = db.calls().await.suspend(worker, &[(key, waits)]).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Something to wait for, at a place in the function.
fn wait(kind: &'static str, path: &str) -> NewWait {
    NewWait { kind, path: path.into(), ..NewWait::default() }
}

fn sleep(path: &str, milliseconds: u64) -> NewWait {
    NewWait { wait: Some(std::time::Duration::from_millis(milliseconds)), ..wait("sleep", path) }
}

fn signal(path: &str, topic: &str) -> NewWait {
    NewWait { topic: Some(topic.into()), ..wait("signal", path) }
}

fn child(path: &str, flow: &str) -> NewWait {
    NewWait { flow: Some(flow.into()), ..wait("child", path) }
}

/// A transaction of a caller that stays open.
async fn open(db: &TestDb, sql: &str) -> Connection {
    let connection = db.database.connection().await.unwrap();
    connection
        .batch_execute(&format!("begin; set local search_path = longhaul; {sql}"))
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    connection
}

/// A worker of handler `h`.
async fn worker(db: &TestDb) -> i64 {
    play_worker(db, &["h"]).await
}
