//! An open transaction of a caller delays its own run and nobody else.

use longhaul::{Concurrency, Flow, Payload, Retry, Step, calls::AttemptKey, connect::Connection};
use serde_json::json;

use super::{chores, claim, claim_one, complete, deploy, open, pass, start, state, worker};
use crate::harness::{TestDb, with_database};

/// Fails when a statement has to wait for somebody.
async fn without_waiting(db: &TestDb, sql: &str) {
    let connection = db.database.connection().await.unwrap();
    connection
        .batch_execute(&format!(
            "begin; set local lock_timeout = '100ms'; set local search_path = longhaul; {sql}; commit"
        ))
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chores_skip_a_run_that_a_caller_holds() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([{ "name": "a", "handler": "h", "retry": { "attempts": 3 } }]),
            json!({ "timeout": "1h" }),
        )
        .await;
        deploy(&db, "nap", json!([{ "name": "a", "sleep": "1s" }]), json!({})).await;
        let dead = worker(&db).await;
        let held = start(&db, "f", json!({})).await;
        for _ in 0..5 {
            start(&db, "f", json!({})).await;
        }
        assert_eq!(claim(&db, dead).await.len(), 6);
        let nap = start(&db, "nap", json!({})).await;
        let held_nap = start(&db, "nap", json!({})).await;
        let caller = open(
            &db,
            &format!(
                "select annotate_run('default', '{held}', '{{}}'); select annotate_run('default', '{held_nap}', '{{}}')"
            ),
        )
        .await;
        db.execute("update longhaul.worker set expires_at = longhaul.clock()").await;
        pass(&db, "2 seconds").await;
        assert_eq!(state(&db, nap).await, "completed");
        let other = worker(&db).await;
        assert_eq!(claim(&db, other).await.len(), 5, "all but the step of the run that is held");
        pass(&db, "2 hours").await;
        assert_eq!(
            db.value::<i64>("select count(*) from longhaul.run where state = 'failed'").await,
            5,
            "their deadlines have passed"
        );
        caller.batch_execute("commit").await.unwrap();
        pass(&db, "10 seconds").await;
        assert_eq!(state(&db, held_nap).await, "completed");
        assert_eq!(state(&db, held).await, "failed");
    })
    .await;
}

/// A run of two steps at once: one is claimed, and the claim of the other is still open.
async fn run_with_an_open_claim(db: &TestDb, worker: i64) -> (AttemptKey, Connection) {
    start(db, "pair", json!({})).await;
    let key = claim_one_of_many(db, worker).await;
    let claiming = open(db, &format!("select * from claim({worker}, array['default'], array[1])")).await;
    (key, claiming)
}

async fn claim_one_of_many(db: &TestDb, worker: i64) -> AttemptKey {
    db.calls().await.claim(worker, &["default"], &[1]).await.unwrap()[0].key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_stays_open_keeps_no_other_run_from_its_end() {
    with_database(|db| async move {
        let two = json!([{ "name": "a", "handler": "h" }, { "name": "b", "handler": "h" }]);
        deploy(&db, "pair", two, json!({ "timeout": "1h" })).await;
        let worker = worker(&db).await;
        let (key, claiming) = run_with_an_open_claim(&db, worker).await;
        let others = [start(&db, "pair", json!({})).await, start(&db, "pair", json!({})).await];

        // A worker's batch waits for two seconds and no longer; the halves without that run are done.
        let connection = db.database.connection().await.unwrap();
        let end = "select * from longhaul.end_attempts($1, $2, $3, $4, array['failed']::longhaul.attempt_outcome[], '{1}', '{f}', null, true)";
        let error = connection
            .query(end, &[&worker, &[key.step.run_id].as_slice(), &[key.step.seq].as_slice(), &[key.attempt].as_slice()])
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "55P03", "{error:?}");

        // So does a chore: the others' deadlines are kept, and this run is set aside with the reason.
        db.execute("update longhaul.worker set expires_at = expires_at + interval '1 day'").await;
        pass(&db, "2 hours").await;
        for other in others {
            assert_eq!(state(&db, other).await, "failed");
        }
        let held: String = db.value("select error from longhaul.set_aside_items").await;
        assert_eq!(held, "somebody else holds what it needs, in an open transaction");
        claiming.batch_execute("rollback").await.unwrap();
        pass(&db, "11 seconds").await;
        assert_eq!(state(&db, key.step.run_id).await, "failed");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.set_aside_items").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_without_the_item_whose_run_is_held_when_the_caller_asks_for_that() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for _ in 0..3 {
            start(&db, "f", json!({})).await;
        }
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        let caller = open(&db, &format!("select annotate_run('default', '{}', '{{}}')", keys[1].step.run_id)).await;
        let connection = db.database.connection().await.unwrap();
        let runs: Vec<_> = keys.iter().map(|k| k.step.run_id).collect();
        let rows = connection
            .query("select run_id, refusal from longhaul.complete($1, $2, '{0,0,0}', '{1,1,1}', '{1,1,1}', true)", &[&worker, &runs])
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].get::<_, uuid::Uuid>(0), keys[1].step.run_id);
        assert_eq!(rows[0].get::<_, String>(1), "busy");
        for call in [
            "end_attempts($1, $2, '{0}', '{1}', '{failed}', null, null, null, true)",
            "suspend($1, $2, '{0}', '{1}', array['[{\"kind\": \"sleep\", \"path\": \"0\", \"wait_ms\": 1}]'::jsonb], true)",
            "release($1, $2, '{0}', '{1}', true)",
        ] {
            let rows = connection.query(&format!("select refusal from longhaul.{call}"), &[&worker, &runs[1..2].to_vec()]).await.unwrap();
            assert_eq!(rows[0].get::<_, String>(0), "busy", "{call}");
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 1, "its lease is still held");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 2);
        caller.batch_execute("commit").await.unwrap();
        complete(&db, worker, &[keys[1]]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_ends_under_one_key_wait_for_no_open_transaction() {
    with_database(|db| async move {
        let client = db.client().await;
        for (name, step) in [
            ("keyed", Step::new("a", "h").concurrency(Concurrency::per_key("$.input", 5))),
            ("fair", Step::new("a", "h").fair("$.input", 1.0)),
        ] {
            client.deploy(&Flow::new(name, 1).step(step)).await.unwrap();
        }
        deploy(&db, "budgeted", json!([{ "name": "a", "handler": "h", "budget": { "name": "b", "limit": 100, "per": "1h" } }]), json!({})).await;
        client.limit_queue("default", &longhaul::calls::QueueLimits { max_running: Some(50), ..Default::default() }).await.unwrap();
        let worker = worker(&db).await;
        let first = start(&db, "keyed", json!("k")).await;
        let key = claim_one(&db, worker).await;
        // One caller starts under every shared thing; another completes a step of the key in a transaction of its own.
        let caller = open(&db, "select start_run('keyed', '\"k\"'), start_run('fair', '\"k\"'), start_run('budgeted')").await;
        let ending = open(&db, &format!("select * from complete({worker}, '{{{first}}}', '{{0}}', '{{{}}}', '{{1}}')", key.attempt)).await;
        for _ in 0..3 {
            without_waiting(&db, "select start_run('keyed', '\"k\"'), start_run('fair', '\"k\"'), start_run('budgeted')").await;
        }
        chores(&db).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        assert_eq!(keys.len(), 9, "three of each");
        without_waiting(
            &db,
            &format!(
                "select * from complete({worker}, array(select run_id from lease where run_id <> '{first}' order by run_id), array_fill(0, array[9]), array_fill(1, array[9]), array_fill('1'::jsonb, array[9]))"
            ),
        )
        .await;
        caller.batch_execute("commit").await.unwrap();
        ending.batch_execute("commit").await.unwrap();
        pass(&db, "1 second").await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        assert_eq!(keys.len(), 3, "those that the caller has started");
        complete(&db, worker, &keys).await;
        assert_eq!(db.value::<i32>("select used from longhaul.gates").await, 0);
        assert_eq!(db.value::<i32>("select running from longhaul.queue_limits where max_running is not null").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_an_open_transaction_stops_no_timer_and_no_other_claim() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        deploy(&db, "keyed", json!([{ "name": "a", "handler": "h", "concurrency": { "name": "n", "limit": 5 } }]), json!({})).await;
        db.execute(
            "create or replace function longhaul.is_long(p_since timestamptz) returns boolean language sql volatile as 'select true'",
        )
        .await;
        let (one, two) = (worker(&db).await, worker(&db).await);
        for _ in 0..3 {
            db.execute("select longhaul.mark_horizon()").await;
        }
        start(&db, "f", json!({})).await;
        start(&db, "keyed", json!({})).await;
        db.execute("select longhaul.start_run('f', p_delay => '1 second')").await;
        let session = open(&db, &format!("select * from claim({one}, '{{default}}', '{{10}}')")).await;
        pass(&db, "2 seconds").await;
        start(&db, "keyed", json!({})).await;
        without_waiting(&db, &format!("select * from claim({two}, '{{default}}', '{{10}}')")).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.lease").await, 1, "the step whose timer fired");
        session.batch_execute("commit").await.unwrap();
        chores(&db).await;
        assert_eq!(claim(&db, two).await.len(), 1, "the one whose key was being looked at");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_many_runs_leave_out_those_that_are_held() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "wait_signal": { "topic": "go" } }]), json!({})).await;
        deploy(&db, "dead", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let mut runs = Vec::new();
        for _ in 0..20 {
            runs.push(start(&db, "f", json!({})).await);
        }
        let worker = worker(&db).await;
        let dead = [start(&db, "dead", json!({})).await, start(&db, "dead", json!({})).await];
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        super::fail(&db, worker, &keys).await;
        let caller = open(
            &db,
            &format!(
                "select annotate_run('default', '{}', '{{}}'); select annotate_run('default', '{}', '{{}}')",
                runs[7], dead[0]
            ),
        )
        .await;
        without_waiting(&db, "select broadcast_signal('default', 'go'), retry_dead_letters('default')").await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 19);
        assert_eq!(claim(&db, worker).await.len(), 1);
        chores(&db).await;
        // Whom it could not reach does not come again at once, and again.
        assert!(db.value::<i32>("select max(tries) from longhaul.notice").await <= 3);
        caller.batch_execute("commit").await.unwrap();
        pass(&db, "10 seconds").await;
        assert_eq!(state(&db, runs[7]).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_for_a_run_that_is_held_keep_no_other_run_waiting() {
    with_database(|db| async move {
        deploy(&db, "kid", json!([{ "name": "k", "handler": "h" }]), json!({})).await;
        let items: Vec<u32> = (0..1050).collect();
        deploy(&db, "many", json!([{ "name": "a", "flow": "kid", "for_each": "$.input", "window": 2000 }]), json!({}))
            .await;
        deploy(&db, "one", json!([{ "name": "a", "flow": "kid" }]), json!({})).await;
        let many = start(&db, "many", json!(items)).await;
        let worker = worker(&db).await;
        let mut keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        keys.extend(claim(&db, worker).await.iter().map(|c| c.key));
        assert_eq!(keys.len(), 1050);
        let caller = open(&db, &format!("select annotate_run('default', '{many}', '{{}}')")).await;
        complete(&db, worker, &keys).await;
        // Both the parent and the child are busy when the child ends.
        let one = start(&db, "one", json!({})).await;
        let key = claim_one(&db, worker).await;
        let second = open(&db, &format!("select annotate_run('default', '{one}', '{{}}')")).await;
        complete(&db, worker, &[key]).await;
        second.batch_execute("commit").await.unwrap();
        pass(&db, "10 seconds").await;
        assert_eq!(state(&db, one).await, "completed");
        caller.batch_execute("commit").await.unwrap();
        pass(&db, "10 seconds").await;
        pass(&db, "10 seconds").await;
        assert_eq!(state(&db, many).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_calls_over_the_same_keys_in_both_orders_never_deadlock() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1)
            .step(
                Step::new("a", "h")
                    .retry(Retry::fixed(3, std::time::Duration::ZERO))
                    .concurrency(Concurrency::per_key("$.input.x", 50)),
            )
            .step(Step::new("b", "h").after("a").concurrency(Concurrency::per_key("$.input.y", 50)))
            .step(Step::new("c", "h").after("b").fair("$.input.x", 1.0));
        client.deploy(&flow).await.unwrap();
        client
            .limit_queue("default", &longhaul::calls::QueueLimits { max_running: Some(500), ..Default::default() })
            .await
            .unwrap();
        db.spawn_scheduler();
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        let rounds = (0..4).map(|seed: i64| {
            let db = db.clone();
            async move {
                let worker = worker(&db).await;
                let calls = db.calls().await;
                for round in 0..25_i64 {
                    let inputs: Vec<_> = (0..20)
                        .map(|n| {
                            let n = if (seed + round) % 2 == 0 { n } else { 19 - n };
                            json!({ "x": n % 10, "y": 9 - n % 10 })
                        })
                        .collect();
                    db.client().await.start_many("f", inputs).await.unwrap();
                    let claimed = calls.claim(worker, &["default"], &[60]).await.unwrap();
                    let items: Vec<_> = claimed.iter().map(|c| (c.key, Payload::new(&1).unwrap())).collect();
                    let (some, others) = items.split_at(items.len() / 3);
                    calls.complete(worker, others).await.unwrap();
                    let ended: Vec<_> = some
                        .iter()
                        .map(|(key, _)| longhaul::calls::EndedAttempt {
                            key: *key,
                            outcome: longhaul::calls::AttemptOutcome::Failed,
                            error: None,
                            retryable: true,
                            delay: Some(std::time::Duration::ZERO),
                        })
                        .collect();
                    calls.end_attempts(worker, &ended).await.unwrap();
                }
            }
        });
        let before: i64 = db.value(deadlocks).await;
        futures::future::join_all(rounds).await;
        db.execute("select pg_stat_clear_snapshot()").await;
        assert_eq!(db.value::<i64>(deadlocks).await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_limited_queue_that_is_not_committed_keeps_that_queue_only() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        deploy(&db, "limited", json!([{ "name": "a", "handler": "h", "queue": "limited" }]), json!({})).await;
        db.execute("select longhaul.limit_queue('default', 'limited', 5)").await;
        let worker = worker(&db).await;
        for change in ["limit_queue('default', 'limited', 3)", "pause_queue('default', 'limited')"] {
            start(&db, "f", json!({})).await;
            start(&db, "limited", json!({})).await;
            let operator = open(&db, &format!("select {change}")).await;
            let connection = db.database.connection().await.unwrap();
            connection.batch_execute("begin; set local lock_timeout = '2s'").await.unwrap();
            let both = format!("select flow_id from longhaul.claim({worker}, '{{limited,default}}', '{{10,10}}')");
            assert_eq!(connection.query(&both, &[]).await.unwrap().len(), 1, "the step of the other queue");
            let limit: String = connection.query_one("show lock_timeout", &[]).await.unwrap().get(0);
            assert_eq!(limit, "2s", "the caller's own limit is as it was");
            connection.batch_execute("commit").await.unwrap();
            operator.batch_execute("rollback").await.unwrap();
            assert_eq!(connection.query(&both, &[]).await.unwrap().len(), 1, "the step of the limited queue");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_a_caller_has_locked_without_the_run_delay_that_run_alone() {
    with_database(|db| async move {
        let more = json!({ "timeout": "1h" });
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), more.clone()).await;
        deploy(
            &db,
            "g",
            json!([{ "name": "a", "handler": "h", "priority": 5 }, { "name": "b", "sleep": "1s" }, { "name": "c", "handler": "h", "after": ["b"], "when": "$.nothing" }]),
            more,
        )
        .await;
        // A claim that somebody keeps open: a row of task, of a run whose deadline passes, and of one that a sleep fails.
        let worker = worker(&db).await;
        let (claimed, failing) = (start(&db, "f", json!({})).await, start(&db, "g", json!({})).await);
        let claiming = open(&db, &format!("select * from claim({worker}, '{{default}}', '{{2}}')")).await;
        let (other, other_failing) = (start(&db, "f", json!({})).await, start(&db, "g", json!({})).await);
        pass(&db, "2 seconds").await;
        assert_eq!(state(&db, other_failing).await, "failed");
        assert_eq!(state(&db, failing).await, "running");
        pass(&db, "2 hours").await;
        assert_eq!(state(&db, other).await, "failed");
        assert_eq!(state(&db, claimed).await, "running");
        claiming.batch_execute("commit").await.unwrap();
        pass(&db, "20 seconds").await;
        assert_eq!(state(&db, claimed).await, "failed");
        assert_eq!(state(&db, failing).await, "failed");

        // A checkpoint that somebody keeps open: a row of lease, of a worker that is lost.
        let dead = super::worker(&db).await;
        start(&db, "f", json!({})).await;
        let key = claim_one(&db, dead).await;
        start(&db, "f", json!({})).await;
        claim_one(&db, dead).await;
        let saving = open(
            &db,
            &format!(
                "select * from save_checkpoints({dead}, '{{{}}}', '{{0}}', '{{1}}', '{{0}}', '{{step}}', '{{n}}', '{{1}}')",
                key.step.run_id
            ),
        )
        .await;
        db.execute(&format!("update longhaul.worker set expires_at = longhaul.clock() where id = {dead}")).await;
        pass(&db, "2 seconds").await;
        let living = super::worker(&db).await;
        assert_eq!(claim(&db, living).await.len(), 1, "the other step");
        saving.batch_execute("commit").await.unwrap();
        pass(&db, "20 seconds").await;
        assert_eq!(claim(&db, living).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_to_a_topic_does_not_wait_for_those_that_wait_for_it() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "wait_signal": { "topic": "t", "key": "$.input" } }]), json!({})).await;
        for (key, send) in [("1", "send_signal"), ("2", "complete_external")] {
            // The start first, or the signal first: they meet when both are committed.
            let caller = open(&db, &format!("select start_run('f', '\"{key}\"')")).await;
            without_waiting(&db, &format!("select {send}('default', 't', '{key}', '1')")).await;
            chores(&db).await;
            caller.batch_execute("commit").await.unwrap();
            pass(&db, "10 seconds").await;
            let caller = open(&db, &format!("select {send}('default', 't', '{key}{key}', '1')")).await;
            without_waiting(&db, &format!("select start_run('f', '\"{key}{key}\"')")).await;
            chores(&db).await;
            caller.batch_execute("commit").await.unwrap();
            pass(&db, "10 seconds").await;
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_run_that_somebody_is_stopping_keeps_no_other_checkpoint_waiting() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        let stopped = start(&db, "f", json!({})).await;
        let other = start(&db, "f", json!({})).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        let items: Vec<_> = keys
            .iter()
            .map(|key| longhaul::calls::NewCheckpoint {
                key: *key,
                path: "0".into(),
                kind: "step",
                name: "n".into(),
                value: Payload::new(&1).unwrap(),
            })
            .collect();
        let caller = open(&db, &format!("select stop_run('default', '{stopped}')")).await;
        let refused = db.calls().await.try_save_checkpoints(worker, &items).await.unwrap();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].is_busy() && refused[0].key.step.run_id == stopped, "{refused:?}");
        assert_eq!(db.value::<uuid::Uuid>("select run_id from longhaul.checkpoint").await, other);
        caller.batch_execute("rollback").await.unwrap();
        assert!(db.calls().await.try_save_checkpoints(worker, &items).await.unwrap().is_empty());
        db.execute(&format!("select longhaul.stop_run('default', '{stopped}')")).await;
        let refused = db.calls().await.try_save_checkpoints(worker, &items).await.unwrap();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].reason, "lease_lost");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_an_operator_keeps_locked_stops_no_claim_from_others() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        deploy(&db, "g", json!([{ "name": "a", "handler": "h", "queue": "other" }]), json!({})).await;
        db.execute("select longhaul.limit_queue('default', 'default', 5)").await;
        let worker = worker(&db).await;
        let (paused, other) = (start(&db, "f", json!({})).await, start(&db, "g", json!({})).await);
        let operator = open(&db, "select pause_queue('default', 'default')").await;
        let claimed = db.calls().await.claim(worker, &["default", "other"], &[10, 10]).await.unwrap();
        assert_eq!(claimed.iter().map(|c| c.key.step.run_id).collect::<Vec<_>>(), [other]);
        complete(&db, worker, &[claimed[0].key]).await;
        operator.batch_execute("rollback").await.unwrap();
        let key = claim_one(&db, worker).await;
        assert_eq!(key.step.run_id, paused);
        complete(&db, worker, &[key]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_a_run_with_a_locked_room_fails_soon_when_its_caller_waits_for_nobody() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([{ "name": "a", "handler": "h" }, { "name": "b", "handler": "other" }, { "name": "c", "handler": "h", "after": ["a"], "when": "$.nothing" }]),
            json!({}),
        )
        .await;
        let worker = worker(&db).await;
        let claiming = crate::starting::play_worker(&db, &["other"]).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        let caller = open(&db, &format!("select * from claim({claiming}, '{{default}}', '{{1}}')")).await;
        let outcome = [(key, Payload::null())];
        let calls = db.calls().await;
        let error = crate::harness::within("the call", calls.try_complete(worker, &outcome)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        caller.batch_execute("commit").await.unwrap();
        assert!(calls.try_complete(worker, &outcome).await.unwrap().is_empty());
        assert_eq!(state(&db, run).await, "failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_registers_beside_an_open_deployment_of_its_queue() {
    with_database(|db| async move {
        let deployment = open(
            &db,
            r#"select * from deploy('default', '{"name": "f", "version": 1, "steps": [{"name": "a", "handler": "h", "queue": "new"}]}')"#,
        )
        .await;
        without_waiting(&db, "set local lock_timeout = '10s'; set local statement_timeout = '10s'; select register_worker('default', 'w', 'h', 1, '1', '{new,other}', '{h}', 1, 30000)").await;
        let worker: i64 = db.value("select id from longhaul.worker").await;
        deployment.batch_execute("commit").await.unwrap();
        let run = start(&db, "f", json!({})).await;
        let claimed = db.calls().await.claim(worker, &["new", "other"], &[1, 1]).await.unwrap();
        complete(&db, worker, &[claimed[0].key]).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_of_keys_leaves_room_in_the_table_of_locks_that_all_share() {
    with_database(|db| async move {
        deploy(&db, "waits", json!([{ "name": "a", "wait_signal": { "topic": "t", "key": "$.input" } }]), json!({})).await;
        deploy(&db, "fair", json!([{ "name": "a", "handler": "h", "fair": { "key": "$.input" } }]), json!({})).await;
        let bulk = |flow: &str| {
            format!(
                "select start_runs('default', '{flow}', null, array(select new_run_id() from generate_series(1, 3000)), array(select to_jsonb(i) from generate_series(1, 3000) i))"
            )
        };
        let sends = "select send_signal('default', 't', i::text, '1') from generate_series(1, 3000) i";
        for sql in [bulk("waits"), bulk("fair"), sends.into()] {
            let caller = open(&db, &sql).await;
            let locks: i64 = caller
                .query_one("select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'", &[])
                .await
                .unwrap()
                .get(0);
            assert!(locks < 1100, "{locks} locks");
            caller.batch_execute("commit").await.unwrap();
        }
        for _ in 0..5 {
            pass(&db, "10 seconds").await;
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, 3000);
    })
    .await;
}
