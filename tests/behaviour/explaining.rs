//! Every gate is explained: each room, limit, pause, policy and missing part of the fleet, with its figures, what opens it, and when.

use longhaul::{Error, Payload, calls::Gate};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    harness::{TestDb, with_database},
    starting::play_worker,
};

impl TestDb {
    async fn deploy_json(&self, flow: &str) {
        self.execute(&format!("select longhaul.deploy('default', $flow${flow}$flow$)")).await;
    }

    /// Starts a run; the options are arguments of `start_run()`.
    async fn begin(&self, flow: &str, input: &str, options: &str) -> Uuid {
        self.value(&format!("select longhaul.start_run('{flow}', '{input}'{options})")).await
    }

    /// As after a while in which nobody did the chores.
    async fn neglect_chores(&self) {
        self.execute("update longhaul.chore set next_at = longhaul.clock() - interval '1 minute'").await;
    }

    async fn gates_of_step(&self, run: Uuid, seq: i32) -> Vec<Gate> {
        self.calls().await.explain_step(run, seq).await.expect("gates")
    }

    async fn gates_of_run(&self, run: Uuid) -> Vec<Gate> {
        self.calls().await.explain_run(run).await.expect("gates")
    }
}

fn gate<'a>(gates: &'a [Gate], name: &str) -> &'a Gate {
    gates.iter().find(|gate| gate.gate == name).unwrap_or_else(|| panic!("there is no gate {name}: {gates:#?}"))
}

/// The gate is closed, its finding says this, and something opens it.
fn closed<'a>(gates: &'a [Gate], name: &str, says: &str) -> &'a Gate {
    let gate = gate(gates, name);
    assert_eq!(gate.state, "closed", "{gate:?}");
    assert!(gate.finding.contains(says), "{says}: {gate:?}");
    gate
}

fn opened_by(gate: &Gate, how: &str) {
    assert!(gate.opened_by.as_deref().is_some_and(|opens| opens.contains(how)), "{how}: {gate:?}");
}

fn figures(gate: &Gate) -> Value {
    gate.figures.as_ref().map(|figures: &Payload| figures.read().expect("JSON")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_room_is_explained() {
    with_database(|db| async move {
        db.deploy_json(r#"{"name": "two", "version": 1, "steps": [{"name": "a", "handler": "h"}, {"name": "b", "handler": "h", "after": ["a"]}]}"#).await;
        let run = db.begin("two", "1", "").await;
        let ready = db.gates_of_step(run, 0).await;
        assert_eq!(figures(closed(&ready, "room", "Step a is ready"))["room"], "task");
        opened_by(closed(&ready, "worker", "none is registered"), "start a worker with handler h for queue default");
        let blocked = db.gates_of_step(run, 1).await;
        closed(&blocked, "room", "Step b is blocked");
        let before = closed(&blocked, "predecessors", "1 of its predecessors: a");
        assert_eq!(figures(before)["names"], serde_json::json!(["a"]));

        // Kept back while the run is paused.
        db.execute(&format!("select longhaul.pause_run('default', '{run}')")).await;
        let held = db.gates_of_step(run, 0).await;
        assert_eq!(figures(closed(&held, "room", "its run is paused"))["room"], "held");
        opened_by(closed(&held, "run", "paused by an operator"), "longhaul resume");
        closed(&db.gates_of_run(run).await, "run", "paused by an operator");
        db.execute(&format!("select longhaul.resume_run('default', '{run}')")).await;

        // Running.
        let worker = play_worker(&db, &["h"]).await;
        db.calls().await.claim(worker, &["default"], &[1]).await.unwrap();
        let running = db.gates_of_step(run, 0).await;
        assert_eq!((gate(&running, "room").state.as_str(), gate(&running, "lease").state.as_str()), ("open", "open"));
        assert_eq!(figures(gate(&running, "lease"))["worker_id"], worker);
        assert!(gate(&running, "lease").finding.contains("does attempt 1 for "));

        // Asleep: a delayed start, and one that was only created.
        let delayed = db.begin("two", "1", ", p_delay => '1 hour'").await;
        let gates = db.gates_of_run(delayed).await;
        let start = closed(&gates, "start", "it starts in ");
        assert!(start.estimate.is_some());
        opened_by(start, "longhaul begin");
        assert_eq!(closed(&gates, "timer", "delayed start").estimate, start.estimate);
        let created = db.begin("two", "1", ", p_create_only => true").await;
        let gates = db.gates_of_run(created).await;
        assert!(closed(&gates, "start", "only created").estimate.is_none());
        closed(&gates, "timer", "until somebody starts its run");

        // Ended.
        db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await;
        let ended = db.gates_of_run(run).await;
        assert_eq!((ended.len(), ended[0].state.as_str()), (1, "ended"));
        assert!(ended[0].finding.contains("it is cancelled for "), "{ended:?}");
        assert_eq!(db.gates_of_step(run, 0).await[0].state, "ended");
        assert!(matches!(db.calls().await.explain_run(Uuid::now_v7()).await, Err(Error::NotFound(_))));
        assert!(matches!(db.calls().await.explain_step(run, 7).await, Err(Error::NotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wait_is_explained() {
    with_database(|db| async move {
        for flow in [
            r#"{"name": "signal", "version": 1, "steps": [{"name": "a", "wait_signal": {"topic": "t"}}]}"#,
            r#"{"name": "keyed", "version": 1, "steps": [{"name": "a", "wait_signal": {"topic": "t", "key": "$.input", "timeout": "1h"}}]}"#,
            r#"{"name": "child", "version": 1, "steps": [{"name": "a", "flow": "signal"}]}"#,
            r#"{"name": "sleep", "version": 1, "steps": [{"name": "a", "sleep": "2h"}]}"#,
            r#"{"name": "items", "version": 1, "steps": [{"name": "a", "handler": "h", "for_each": "$.input", "window": 2}]}"#,
            r#"{"name": "asks", "version": 1, "steps": [{"name": "a", "handler": "h", "approval": {"question": "Pay it?", "choices": ["yes", "no"], "by": ["anna"]}}]}"#,
        ] {
            db.deploy_json(flow).await;
        }
        let run = db.begin("signal", "1", "").await;
        opened_by(closed(&db.gates_of_step(run, 0).await, "signal", "it waits for signal t"), &format!("longhaul signal {run} t"));
        db.neglect_chores().await;
        let run = db.begin("keyed", "\"k7\"", "").await;
        let gates = db.gates_of_step(run, 0).await;
        let signal = closed(&gates, "signal", "with key k7");
        opened_by(signal, "longhaul signal key:k7 t");
        assert!(signal.estimate.is_some(), "it ends with its timeout");
        closed(&gates, "scheduler", "nobody does the chore fire_waits");
        let run = db.begin("child", "1", "").await;
        let gates = db.gates_of_step(run, 0).await;
        let child = closed(&gates, "child", "of flow signal, which is running");
        opened_by(child, &format!("longhaul explain {}", figures(child)["run_id"].as_str().unwrap()));
        let run = db.begin("sleep", "1", "").await;
        assert!(closed(&db.gates_of_step(run, 0).await, "time", "it sleeps for another ").estimate.is_some());
        let run = db.begin("items", "[1, 2, 3]", "").await;
        assert_eq!(figures(closed(&db.gates_of_step(run, 0).await, "items", "0 of 3 items have ended"))["opened"], 2);
        let run = db.begin("asks", "1", "").await;
        let gates = db.gates_of_step(run, 0).await;
        let question = closed(&gates, "question", "Pay it?");
        assert_eq!(figures(question)["may_answer"], serde_json::json!(["anna"]));
        opened_by(question, &format!("longhaul decide {run}"));
        opened_by(closed(&db.gates_of_run(run).await, "run", "until a question is answered"), "longhaul questions");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_is_explained() {
    with_database(|db| async move {
        db.deploy_json(r#"{"name": "f", "version": 1, "steps": [{"name": "a", "handler": "h"}]}"#).await;
        let worker = play_worker(&db, &["h"]).await;
        let first = db.begin("f", "1", "").await;
        let run = db.begin("f", "2", "").await;
        db.execute("select longhaul.pause_queue('default', 'default', 'Ms Miller')").await;
        opened_by(
            closed(&db.gates_of_step(run, 0).await, "queue", "is paused for 0s by Ms Miller"),
            "longhaul queue resume default",
        );
        db.execute("select longhaul.resume_queue('default', 'default')").await;

        db.execute("select longhaul.limit_queue('default', 'default', 1, 1, '1 hour', 1, '10 minutes')").await;
        let claimed = db.calls().await.claim(worker, &["default"], &[10]).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let gates = db.gates_of_step(run, 0).await;
        let limit = closed(&gates, "queue limit", "1 of at most 1 steps of queue default run");
        assert_eq!((figures(limit)["used"].as_i64(), figures(limit)["most"].as_i64()), (Some(1), Some(1)));
        let rate = closed(&gates, "rate", "1 of at most 1 steps of queue default began");
        assert!(rate.estimate.is_some());
        assert_eq!(gate(&gates, "breaker").state, "open");
        db.execute("update longhaul.queue set breaker_count = 1, open_until = longhaul.clock() + interval '9 minutes'")
            .await;
        let gates = db.gates_of_step(run, 0).await;
        assert!(closed(&gates, "breaker", "is closed for another ").estimate.is_some());
        // The queue as a whole.
        db.neglect_chores().await;
        let gates = db.calls().await.explain_queue("default", "default").await.unwrap();
        closed(&gates, "breaker", "1 attempts in a row got no answer");
        assert_eq!(figures(closed(&gates, "ready", "1 of handler h is ready"))["ready"], 1);
        assert_eq!(gate(&gates, "worker").state, "open");
        closed(&gates, "scheduler", "nobody does the chore admit_queued");
        assert!(matches!(db.calls().await.explain_queue("default", "nothing").await, Err(Error::NotFound(_))));
        assert_eq!(claimed[0].key.step.run_id, first);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_budgets_and_fair_turns_are_explained_with_the_place_in_line() {
    with_database(|db| async move {
        for flow in [
            r#"{"name": "key", "version": 1, "steps": [{"name": "a", "handler": "h", "concurrency": {"name": "one", "limit": 1, "key": "$.input"}}]}"#,
            r#"{"name": "fair", "version": 1, "steps": [{"name": "a", "handler": "g", "fair": {"key": "$.input", "weight": 1}}]}"#,
            r#"{"name": "budget", "version": 1, "steps": [{"name": "a", "handler": "b", "budget": {"name": "money", "limit": 100, "per": "1h", "amount": "$.input", "exceeded": "defer"}}]}"#,
        ] {
            db.deploy_json(flow).await;
        }
        let first = db.begin("key", "\"x\"", "").await;
        db.begin("key", "\"x\"", "").await;
        let last = db.begin("key", "\"x\"", "").await;
        let worker = play_worker(&db, &["h"]).await;
        // A step of this lane takes ten seconds.
        let claimed = db.calls().await.claim(worker, &["default"], &[10]).await.unwrap();
        assert_eq!(claimed.len(), 1);
        db.execute("select longhaul.advance_clock('10 seconds')").await;
        db.execute(&format!("select longhaul.complete({worker}, array['{first}']::uuid[], array[0], array[1], array['1'::jsonb])")).await;
        assert_eq!(db.calls().await.claim(worker, &["default"], &[10]).await.unwrap().len(), 1);
        let gates = db.gates_of_step(last, 0).await;
        let key = closed(&gates, "key", "key one x has 1 of at most 1 at a time, and 0 stand before it");
        assert_eq!((figures(key)["used"].as_i64(), figures(key)["ahead"].as_i64()), (Some(1), Some(0)));
        let now = db.calls().await.present().await.unwrap();
        let seconds = (key.estimate.expect("an estimate") - now).num_seconds();
        assert!((7..=10).contains(&seconds), "one step of ten seconds: {seconds}");

        for _ in 0..2 {
            db.begin("fair", "\"flood\"", "").await;
        }
        let run = db.begin("fair", "\"flood\"", "").await;
        let gates = db.gates_of_step(run, 0).await;
        assert_eq!(figures(closed(&gates, "fair share", "turns are given by key"))["ahead"], 2);
        closed(&gates, "slot", "2 are ready before it");

        db.begin("budget", "60", "").await;
        db.execute("select longhaul.fire_waits()").await;
        let run = db.begin("budget", "60", "").await;
        db.execute("select longhaul.fire_waits()").await;
        let gates = db.gates_of_step(run, 0).await;
        let budget = closed(&gates, "budget", "budget money: 60 of 100 is spent");
        assert!(budget.estimate.is_some(), "the next window: {budget:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_of_the_fleet_is_explained() {
    with_database(|db| async move {
        db.deploy_json(r#"{"name": "f", "version": 1, "steps": [{"name": "a", "handler": "h", "retry": {"attempts": 3, "backoff": "10m"}}]}"#).await;
        db.deploy_json(r#"{"name": "other", "version": 1, "steps": [{"name": "a", "handler": "h", "queue": "q2"}]}"#).await;
        let run = db.begin("f", "1", "").await;
        let other = db.begin("other", "1", "").await;
        let stranger = play_worker(&db, &["g"]).await;
        closed(&db.gates_of_step(run, 0).await, "worker", "1 serve the queue, but do not know the handler");
        let worker = play_worker(&db, &["h"]).await;
        closed(&db.gates_of_step(other, 0).await, "worker", "1 know the handler, but do not serve the queue");
        db.execute(&format!("select longhaul.drain_worker({worker})")).await;
        closed(&db.gates_of_step(run, 0).await, "worker", "draining or overdue (1)");

        // An owner that says nothing any more.
        let owner = play_worker(&db, &["h"]).await;
        assert_eq!(db.calls().await.claim(owner, &["default"], &[1]).await.unwrap().len(), 1);
        db.execute(&format!("update longhaul.worker set lease_ms = 60000, heartbeat_at = longhaul.clock() - interval '50 seconds', expires_at = longhaul.clock() + interval '10 seconds' where id = {owner}")).await;
        let gates = db.gates_of_step(run, 0).await;
        let lease = closed(&gates, "lease", "which is long: without another one the step goes to others");
        assert_eq!(figures(lease)["heartbeat_age_s"], 50);
        assert!(lease.estimate.is_some());
        db.execute(&format!("update longhaul.worker set expires_at = longhaul.clock() - interval '1 minute' where id = {owner}")).await;
        let gates = db.gates_of_step(run, 0).await;
        opened_by(closed(&gates, "lease", "its lease was over 1m 0s ago"), "expire_leases");

        // A timer that nobody fires, and a chore that fails.
        db.execute("select longhaul.expire_leases()").await;
        let gates = db.gates_of_step(run, 0).await;
        assert!(gates.iter().any(|gate| gate.gate == "timer" || gate.gate == "slot"), "{gates:#?}");
        let sleeping = db.begin("f", "1", ", p_delay => '1 minute'").await;
        db.neglect_chores().await;
        let gates = db.gates_of_step(sleeping, 0).await;
        opened_by(closed(&gates, "scheduler", "nobody does the chore fire_timers: it is 1m 0s late"), "start a scheduler");
        db.execute("update longhaul.chore set next_at = longhaul.clock(), failures = 1, last_done = null, last_error = 'no room on the disk'").await;
        closed(&db.gates_of_step(sleeping, 0).await, "scheduler", "fails: no room on the disk");
        let _ = stranger;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_explained_with_its_deadline_what_was_set_aside_and_locks_that_name_it() {
    with_database(|db| async move {
        db.deploy_json(r#"{"name": "f", "version": 1, "steps": [{"name": "a", "handler": "h"}]}"#).await;
        let run = db.begin("f", "1", ", p_deadline => '1 hour'").await;
        db.execute(&format!(
            "insert into longhaul.set_aside values ('deliver_notices', '7', '{run}', null, 'no room on the disk', 3, longhaul.clock(), longhaul.clock() + interval '1 minute');
             select longhaul.acquire_lock('default', '{run}/pack', 'packer 4', 60000)"
        ))
        .await;
        let gates = db.gates_of_run(run).await;
        let deadline = gate(&gates, "deadline");
        assert_eq!(deadline.state, "open");
        assert!(deadline.finding.contains("it fails unless it has ended in ") && deadline.estimate.is_some(), "{deadline:?}");
        closed(&gates, "set aside", "deliver_notices could not handle it, 3 times: no room on the disk");
        let lock = closed(&gates, "lock", "is held by packer 4");
        opened_by(lock, &format!("longhaul lock release {run}/pack"));
        assert!(gates.iter().any(|gate| gate.step.as_deref() == Some("a")), "the steps follow");
        db.execute("select longhaul.advance_clock('2 hours')").await;
        closed(&db.gates_of_run(run).await, "deadline", "its time was over ");
        db.execute("delete from longhaul.set_aside").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_explained() {
    with_database(|db| async move {
        db.deploy_json(r#"{"name": "f", "version": 2, "steps": [{"name": "a", "handler": "h"}]}"#).await;
        db.execute("select longhaul.put_schedule('default', 'nightly', '0 3 * * *', 'UTC', 'f', null, '1', 'skip', 'skip', 0, null, null, longhaul.clock() + interval '1 hour')").await;
        let explain = || async { db.calls().await.explain_schedule("default", "nightly").await.unwrap() };
        let gates = explain().await;
        assert_eq!(gate(&gates, "schedule").state, "open");
        assert!(closed(&gates, "time", "the next tick comes in ").estimate.is_some());
        assert_eq!(figures(gate(&gates, "flow"))["version"], 2);
        assert_eq!(gate(&gates, "overlap").finding, "no run was started yet");

        db.execute("select longhaul.pause_schedule('default', 'nightly')").await;
        opened_by(closed(&explain().await, "schedule", "it is paused for "), "longhaul schedule resume nightly");
        db.execute("select longhaul.resume_schedule('default', 'nightly')").await;
        db.execute("update longhaul.schedule set next_at = longhaul.clock() - interval '1 minute'").await;
        closed(&explain().await, "scheduler", "no scheduler fires it: a tick is 1m 0s late");
        // The run of the tick before lives, and the version that it names is gone.
        db.execute("select longhaul.fire_tick(id, date_trunc('second', longhaul.clock()), false) from longhaul.schedule").await;
        db.execute("update longhaul.schedule set last_run = (select id from longhaul.run limit 1), version = 7").await;
        let gates = explain().await;
        closed(&gates, "overlap", "is running: ticks are skipped meanwhile");
        closed(&gates, "flow", "flow f version 7 is not deployed");
        db.execute("update longhaul.schedule set next_at = null, retry_at = longhaul.clock(), last_error = 'no flow'").await;
        let gates = explain().await;
        closed(&gates, "time", "no tick will come any more");
        closed(&gates, "scheduler", "the last try to start its run failed, and is repeated: no flow");
        db.execute("insert into longhaul.schedule_tick select id, longhaul.clock() - interval '1 minute', longhaul.clock(), 'failed', null, 'no such flow' from longhaul.schedule").await;
        opened_by(closed(&explain().await, "failed tick", "started no run: no such flow"), "longhaul schedule run nightly");
        assert!(matches!(db.calls().await.explain_schedule("default", "nothing").await, Err(Error::NotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_estimated_from_what_ended_lately() {
    with_database(|db| async move {
        db.deploy_json(r#"{"name": "f", "version": 1, "steps": [{"name": "a", "handler": "h"}]}"#).await;
        let mut runs = Vec::new();
        for number in 0..30 {
            runs.push(db.begin("f", &number.to_string(), "").await);
        }
        let last = runs[29];
        assert_eq!(
            closed(&db.gates_of_step(last, 0).await, "slot", "29 are ready before it").estimate,
            None,
            "nothing has ended yet"
        );
        // Ten end in ten seconds, one a second.
        let worker = play_worker(&db, &["h"]).await;
        for run in &runs[..10] {
            assert_eq!(db.calls().await.claim(worker, &["default"], &[1]).await.unwrap()[0].key.step.run_id, *run);
            db.execute("select longhaul.advance_clock('1 second')").await;
            db.execute(&format!(
                "select longhaul.complete({worker}, array['{run}']::uuid[], array[0], array[1], array['1'::jsonb])"
            ))
            .await;
        }
        let now = db.calls().await.present().await.unwrap();
        let gates = db.gates_of_step(last, 0).await;
        let slot = closed(&gates, "slot", "19 are ready before it");
        let seconds = (slot.estimate.expect("an estimate") - now).num_seconds();
        assert!((12..=30).contains(&seconds), "twenty steps, about one a second: {seconds}");
        let gates = db.calls().await.explain_queue("default", "default").await.unwrap();
        let ready = closed(&gates, "ready", "20 of handler h are ready");
        assert!((ready.estimate.expect("an estimate") - now).num_seconds() < 40, "{ready:?}");
        // What ended long ago tells nothing.
        db.execute("select longhaul.advance_clock('1 hour')").await;
        assert_eq!(closed(&db.gates_of_step(last, 0).await, "slot", "19 are ready").estimate, None);
    })
    .await;
}
