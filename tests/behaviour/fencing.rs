//! Each attempt ends once, and only by its owner. The tests play the workers' part by the database functions.

use std::time::Duration;

use longhaul::{
    Error, Flow, Payload, Retry, Step,
    calls::{AttemptKey, AttemptOutcome, ClaimedStep, EndedAttempt, RunState},
};

use crate::{
    harness::{TestDb, eventually, with_database},
    starting::play_worker,
};

pub async fn claim_one(db: &TestDb, worker: i64) -> ClaimedStep {
    let mut claimed = db.calls().await.claim(worker, &["default"], &[1]).await.unwrap();
    assert_eq!(claimed.len(), 1, "there is a ready step");
    claimed.remove(0)
}

pub fn ok() -> Payload {
    Payload::new(&"done").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_arrives_after_its_worker_has_asked_what_it_took_takes_nothing() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        db.client().await.start_many("one", 0..3).await.unwrap();
        let calls = db.calls().await;
        let nothing = std::iter::empty::<AttemptKey>;

        // One that is being carried out is waited for, and what it took is told.
        let slow = db.database.connection().await.unwrap();
        slow.batch_execute(&format!("begin; select * from longhaul.claim({worker}, '{{default}}', '{{1}}', 1)"))
            .await
            .unwrap();
        let asking = calls.forgotten_leases(worker, nothing(), Some(1));
        let commit = async {
            let waits = "select count(*) = 1 from pg_locks where locktype = 'advisory' and not granted
                         and database = (select oid from pg_database where datname = current_database())";
            eventually("somebody waits", || async { db.value::<bool>(waits).await }).await;
            slow.batch_execute("commit").await.unwrap();
        };
        let (forgotten, ()) = tokio::join!(asking, commit);
        let forgotten = forgotten.unwrap();
        assert_eq!(forgotten.len(), 1);

        // One that was still on its way is refused, and the next is not.
        let late = calls.claim_numbered(worker, &["default"], &[1], Some(1)).await.unwrap_err();
        assert!(matches!(&late, Error::Refused(reason) if reason.contains("comes too late")), "{late}");
        assert_eq!(calls.claim_numbered(worker, &["default"], &[1], Some(2)).await.unwrap().len(), 1);
        // OperationOptions once more, about an older claim, takes nothing back.
        let known = [forgotten[0].key].into_iter();
        assert_eq!(calls.forgotten_leases(worker, known, Some(0)).await.unwrap().len(), 1);
        assert!(calls.claim_numbered(worker, &["default"], &[1], Some(1)).await.is_err());
        assert_eq!(
            calls.claim(worker, &["default"], &[1]).await.unwrap().len(),
            1,
            "those without a number are not refused"
        );
    })
    .await;
}

fn ended(key: AttemptKey, outcome: AttemptOutcome) -> EndedAttempt {
    EndedAttempt { key, outcome, error: None, retryable: true, delay: Some(Duration::ZERO) }
}

/// The one reason for which a call was refused; empty when it was not.
fn reason(refused: &[longhaul::calls::RefusedAttempt]) -> &str {
    refused.first().map_or("", |r| r.reason.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_completion_twice_changes_nothing_the_second_time() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(&Flow::new("two", 1).step(Step::new("a", "h")).step(Step::new("b", "h").after("a")))
            .await
            .unwrap();
        let run = client.start("two", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let key = claim_one(&db, worker).await.key;
        let calls = db.calls().await;

        assert!(calls.complete(worker, &[(key, ok())]).await.unwrap().is_empty());
        let before = run.get().await.unwrap();
        let again = calls.complete(worker, &[(key, Payload::new(&"other").unwrap())]).await.unwrap();

        assert_eq!(reason(&again), "already_completed");
        assert!(again[0].was_done_before());
        let after = run.get().await.unwrap();
        assert_eq!((before.revision, before.open_steps), (after.revision, after.open_steps));
        assert_eq!(calls.step_output(run.id(), "a").await.unwrap().unwrap().as_str(), "\"done\"");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task").await, 1, "the successor is ready once");
        // Twice within one call.
        let key = claim_one(&db, worker).await.key;
        let again = calls.complete(worker, &[(key, ok()), (key, ok())]).await.unwrap();
        assert_eq!((again.len(), reason(&again)), (1, "already_completed"), "the first is carried out");
        assert_eq!(run.get().await.unwrap().state, RunState::Completed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_racing_ends_of_one_attempt_give_one_outcome() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let worker = play_worker(&db, &["h"]).await;
        for _ in 0..5 {
            client.start("one", &1).await.unwrap();
            let key = claim_one(&db, worker).await.key;
            let races = (0..50).map(|n| {
                let db = db.clone();
                async move {
                    let calls = db.calls().await;
                    match n % 3 {
                        0 => calls.complete(worker, &[(key, ok())]).await,
                        1 => calls.end_attempts(worker, &[ended(key, AttemptOutcome::Released)]).await,
                        _ => calls.end_attempts(worker, &[ended(key, AttemptOutcome::Failed)]).await,
                    }
                }
            });
            let outcomes = futures::future::join_all(races).await;
            let won = outcomes.into_iter().filter(|refused| refused.as_ref().unwrap().is_empty()).count();
            assert_eq!(won, 1);
            db.execute("delete from longhaul.task; update longhaul.run set state = 'cancelled', open_steps = 0 where open_steps > 0").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_after_the_lease_expired_is_refused() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let client = db.client().await;
        let run = client.start("one", &1).await.unwrap();
        let (slow, other) = (play_worker(&db, &["h"]).await, play_worker(&db, &["h"]).await);
        let stale = claim_one(&db, slow).await.key;
        let calls = db.calls().await;

        // Its heartbeat is late by the database's clock.
        db.execute(&format!(
            "update longhaul.worker set expires_at = longhaul.clock() - interval '1 ms' where id = {slow}"
        ))
        .await;
        assert_eq!(db.value::<i64>("select longhaul.expire_leases()").await, 1);

        // Before anybody else has it, while somebody else has it, and after that one has completed it.
        let refused = calls.complete(slow, &[(stale, ok())]).await.unwrap();
        assert_eq!(reason(&refused), "lease_lost");
        let fresh = claim_one(&db, other).await;
        assert_eq!((fresh.key.attempt, fresh.failures), (stale.attempt + 1, 1), "an expired attempt counts");
        for outcome in
            [AttemptOutcome::Failed, AttemptOutcome::Released, AttemptOutcome::Snoozed, AttemptOutcome::Panicked]
        {
            let refused = calls.end_attempts(slow, &[ended(stale, outcome)]).await.unwrap();
            assert_eq!(reason(&refused), "lease_lost", "{outcome:?}");
        }
        assert!(calls.complete(other, &[(fresh.key, ok())]).await.unwrap().is_empty());
        assert_eq!(reason(&calls.complete(slow, &[(stale, ok())]).await.unwrap()), "lease_lost");

        // The slow worker itself is told, whatever it does.
        assert!(matches!(calls.heartbeat(slow, std::iter::empty()).await, Err(Error::WorkerLost(_))));
        assert!(matches!(calls.claim(slow, &["default"], &[1]).await, Err(Error::WorkerLost(_))));
        let attempts = client.attempts(run.id()).await.unwrap();
        assert_eq!(attempts.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(), ["expired"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_end_an_attempt() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let run = db.client().await.start("one", &1).await.unwrap();
        let (owner, thief) = (play_worker(&db, &["h"]).await, play_worker(&db, &["h"]).await);
        let key = claim_one(&db, owner).await.key;
        let calls = db.calls().await;
        assert_eq!(reason(&calls.complete(thief, &[(key, ok())]).await.unwrap()), "lease_lost");
        let (mut older, mut nowhere) = (key, key);
        older.attempt -= 1;
        nowhere.step.seq = 99;
        assert_eq!(reason(&calls.complete(owner, &[(older, ok())]).await.unwrap()), "lease_lost");
        // In one batch: what is wrong is refused, what is right is done.
        let refused = calls.complete(owner, &[(nowhere, ok()), (key, ok())]).await.unwrap();
        assert_eq!((refused.len(), reason(&refused)), (1, "not_found"));
        assert_eq!(run.get().await.unwrap().open_steps, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn released_steps_come_back_at_once_with_no_attempt_consumed_but_a_new_token() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h").retry(Retry::never())).await;
        db.client().await.start("one", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        for round in 1..=3 {
            let claimed = claim_one(&db, worker).await;
            assert_eq!((claimed.key.attempt, claimed.failures), (round, 0));
            let release = [ended(claimed.key, AttemptOutcome::Released)];
            assert!(calls.end_attempts(worker, &release).await.unwrap().is_empty());
            let again = calls.end_attempts(worker, &release).await.unwrap();
            assert_eq!(reason(&again), "already_released");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_worker_whose_row_is_gone_go_to_others() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.client().await.start("one", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let key = claim_one(&db, worker).await.key;
        db.execute(&format!("delete from longhaul.worker where id = {worker}")).await;
        assert_eq!(db.value::<i64>("select longhaul.free_orphans()").await, 1);
        assert_eq!(reason(&db.calls().await.complete(worker, &[(key, ok())]).await.unwrap()), "lease_lost");
        let other = play_worker(&db, &["h"]).await;
        assert_eq!(claim_one(&db, other).await.key.attempt, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_attempts_left_fails_when_its_worker_dies() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h").retry(Retry::never())).await;
        let run = db.client().await.start("one", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        claim_one(&db, worker).await;
        db.execute("update longhaul.worker set expires_at = longhaul.clock()").await;
        db.execute("select longhaul.expire_leases()").await;
        let run = run.get().await.unwrap();
        assert_eq!(run.state.as_str(), "failed");
        assert!(run.error.unwrap().as_str().contains("stopped its heartbeat"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_renew_by_the_database_clock_and_tell_what_was_lost() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.client().await.start_many("one", 0..2).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let claimed = calls.claim(worker, &["default"], &[2]).await.unwrap();
        let keys: Vec<AttemptKey> = claimed.iter().map(|c| c.key).collect();
        db.execute(&format!("update longhaul.worker set expires_at = longhaul.clock() where id = {worker}")).await;
        assert!(calls.heartbeat(worker, keys.iter().copied()).await.unwrap().is_empty());
        assert_eq!(db.value::<i64>("select longhaul.expire_leases()").await, 0, "the heartbeat came first");

        db.execute(&format!(
            "select * from longhaul.release({worker}, array['{}'::uuid], array[0], array[1])",
            keys[0].step.run_id
        ))
        .await;
        assert_eq!(calls.heartbeat(worker, keys.iter().copied()).await.unwrap(), [keys[0]]);
        assert!(matches!(calls.heartbeat(999, std::iter::empty()).await, Err(Error::WorkerLost(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claims_at_once_never_get_the_same_step() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.client().await.start_many("one", 0..2_000).await.unwrap();
        let claims = (0..10).map(|_| {
            let db = db.clone();
            async move {
                let worker = play_worker(&db, &["h"]).await;
                let mut mine = Vec::new();
                loop {
                    let claimed = db.calls().await.claim(worker, &["default"], &[37]).await.unwrap();
                    if claimed.is_empty() && db.value::<i64>("select count(*) from longhaul.task").await == 0 {
                        return mine;
                    }
                    mine.extend(claimed.into_iter().map(|c| c.key));
                }
            }
        });
        let mut all: Vec<AttemptKey> = futures::future::join_all(claims).await.into_iter().flatten().collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!((count, all.len()), (2_000, 2_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_worker_hands_everything_back() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.client().await.start_many("one", 0..3).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        let calls = db.calls().await;
        let claimed = calls.claim(worker, &["default"], &[3]).await.unwrap();
        calls.drain_worker(worker).await.unwrap();
        assert!(
            matches!(calls.claim(worker, &["default"], &[3]).await, Err(Error::Refused(_))),
            "a draining worker claims nothing"
        );
        assert!(
            calls.complete(worker, &[(claimed[0].key, ok())]).await.unwrap().is_empty(),
            "but finishes what it has"
        );
        assert_eq!(calls.deregister_worker(worker).await.unwrap(), 2);
        assert_eq!(calls.deregister_worker(worker).await.unwrap(), 0);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.task where failures = 0").await, 2);
    })
    .await;
}
