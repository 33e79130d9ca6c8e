//! Child runs: their answers are kept, a stop reaches them, a retry goes on with them.

use serde_json::json;
use uuid::Uuid;

use super::{
    child, chores, claim, claim_one, complete, deploy, fail, pass, signal, sleep, start, state, suspend, worker,
};
use crate::harness::{TestDb, with_database};

async fn child_of(db: &TestDb, parent: Uuid) -> Uuid {
    db.value(&format!("select id from longhaul.run where parent_id = '{parent}'")).await
}

/// Flows `kid` (one step of handler `k`) and `f` (one step of handler `h`).
async fn deploy_both(db: &TestDb) -> (i64, i64) {
    deploy(db, "kid", json!([{ "name": "k", "handler": "k" }]), json!({})).await;
    deploy(db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
    (worker(db).await, crate::starting::play_worker(db, &["k"]).await)
}

/// A function that works, while its child of place 1 lives.
async fn working_with_child(db: &TestDb, worker: i64) -> (Uuid, longhaul::calls::AttemptKey) {
    let run = start(db, "f", json!({})).await;
    let key = claim_one(db, worker).await;
    suspend(db, worker, key, vec![child("1", "kid"), signal("2", "t")]).await;
    db.execute(&format!("select longhaul.signal_run('default', '{run}', 't')")).await;
    (run, claim_one(db, worker).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_child_that_ends_while_nobody_waits_is_kept() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        for end in ["completes", "fails"] {
            let (run, key) = working_with_child(&db, worker).await;
            let kid = claim_one(&db, kids).await;
            match end {
                "completes" => complete(&db, kids, &[kid]).await,
                _ => fail(&db, kids, &[kid]).await,
            }
            chores(&db).await;
            suspend(&db, worker, key, vec![child("1", "kid")]).await;
            let key = claim_one(&db, worker).await;
            let answer: String =
                db.value(&format!("select answer::text from longhaul.history('{run}', 0) where path = '1'")).await;
            assert_eq!(answer, if end == "completes" { "ok" } else { "error" });
            complete(&db, worker, &[key]).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_somebody_has_deleted_is_answered_with_an_error() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        let (run, key) = working_with_child(&db, worker).await;
        let kid = claim_one(&db, kids).await;
        let id = child_of(&db, run).await;
        // Behind the back of all rules.
        db.execute(&format!(
            "delete from longhaul.lease where run_id = '{id}'; delete from longhaul.run where id = '{id}'"
        ))
        .await;
        let _ = kid;
        suspend(&db, worker, key, vec![child("1", "kid")]).await;
        let key = claim_one(&db, worker).await;
        let message: String =
            db.value(&format!("select value ->> 'message' from longhaul.history('{run}', 0) where path = '1'")).await;
        assert!(message.ends_with("is gone"), "{message}");
        complete(&db, worker, &[key]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_or_a_failure_reaches_the_child_of_a_function_that_works() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        for end in ["stop", "failure", "deadline"] {
            let (run, key) = working_with_child(&db, worker).await;
            let id = child_of(&db, run).await;
            match end {
                "stop" => db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await,
                "failure" => fail(&db, worker, &[key]).await,
                _ => {
                    db.execute(&format!("insert into longhaul.deadline values ('{run}', longhaul.clock(), 1)")).await;
                    pass(&db, "2 seconds").await;
                }
            }
            chores(&db).await;
            assert_eq!(state(&db, id).await, "cancelled", "{end}");
            assert_eq!(claim(&db, kids).await.len(), 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_lost_a_race_ends_with_the_step_that_began_it() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, vec![child("1", "kid"), sleep("2", 300)]).await;
        pass(&db, "1 second").await;
        let key = claim_one(&db, worker).await;
        let id = child_of(&db, run).await;
        assert_eq!(state(&db, id).await, "running", "the function may wait for it once more");
        complete(&db, worker, &[key]).await;
        chores(&db).await;
        assert_eq!(state(&db, run).await, "completed");
        assert_eq!(state(&db, id).await, "cancelled");
        assert_eq!(claim(&db, kids).await.len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_with_the_child_and_does_its_work_once() {
    with_database(|db| async move {
        deploy(
            &db,
            "kid",
            json!([{ "name": "k1", "handler": "k" }, { "name": "k2", "handler": "k", "after": ["k1"] }]),
            json!({}),
        )
        .await;
        deploy(
            &db,
            "par",
            json!([{ "name": "p", "flow": "kid" }, { "name": "q", "handler": "h", "after": ["p"] }]),
            json!({}),
        )
        .await;
        deploy(&db, "fun", json!([{ "name": "p", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        let kids = crate::starting::play_worker(&db, &["k"]).await;
        for (flow, retry) in [
            ("par", "letters"),
            ("par", "run"),
            ("fun", "letters"),
            ("fun", "run"),
            ("par", "stopped"),
            ("fun", "stopped"),
        ] {
            let run = start(&db, flow, json!({})).await;
            if flow == "fun" {
                let key = claim_one(&db, worker).await;
                suspend(&db, worker, key, vec![child("1", "kid")]).await;
            }
            let id = child_of(&db, run).await;
            let key = claim_one(&db, kids).await;
            complete(&db, kids, &[key]).await;
            let key = claim_one(&db, kids).await;
            if retry == "stopped" {
                db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await;
            } else {
                fail(&db, kids, &[key]).await;
            }
            if flow == "fun" && retry != "stopped" {
                let key = claim_one(&db, worker).await;
                fail(&db, worker, &[key]).await;
            }
            chores(&db).await;
            assert_ne!(state(&db, run).await, "running");
            let alone = db
                .database
                .connection()
                .await
                .unwrap()
                .batch_execute(&format!("select longhaul.retry_run('default', '{id}')"))
                .await;
            assert_eq!(alone.unwrap_err().code().unwrap().code(), "LH003", "the parent is to be retried");
            // The server reports an error before it has given the locks back: the child may still be held when its parent is retried.
            if retry == "letters" {
                assert_eq!(db.value::<i64>("select longhaul.retry_dead_letters('default')").await, 1, "{flow}");
            } else {
                db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
            }
            if flow == "fun" {
                let key = claim_one(&db, worker).await;
                suspend(&db, worker, key, vec![child("1", "kid")]).await;
            }
            pass(&db, "1 second").await;
            assert_eq!(child_of(&db, run).await, id, "{flow} {retry}: no second child");
            let key = claim_one(&db, kids).await;
            assert_eq!((key.step.run_id, key.step.seq), (id, 1), "what the child had done is not done again");
            complete(&db, kids, &[key]).await;
            chores(&db).await;
            let key = claim_one(&db, worker).await;
            complete(&db, worker, &[key]).await;
            assert_eq!(state(&db, run).await, "completed", "{flow} {retry}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_undone_runs_hide_no_others_from_a_retry() {
    with_database(|db| async move {
        let worker = worker(&db).await;
        let pay = json!({ "name": "pay", "handler": "h", "after": ["book"], "retry": { "attempts": 1 } });
        deploy(&db, "trip", json!([{ "name": "book", "handler": "h", "compensate": "h" }, pay]), json!({})).await;
        deploy(&db, "plain", json!([{ "name": "a", "handler": "h", "retry": { "attempts": 1 } }]), json!({})).await;
        for _ in 0..3 {
            let undone = start(&db, "trip", json!({})).await;
            let key = claim_one(&db, worker).await;
            complete(&db, worker, &[key]).await;
            let key = claim_one(&db, worker).await;
            fail(&db, worker, &[key]).await;
            let undo = claim_one(&db, worker).await;
            complete(&db, worker, &[undo]).await;
            assert_eq!(state(&db, undone).await, "failed");
        }
        let failed = start(&db, "plain", json!({})).await;
        let key = claim_one(&db, worker).await;
        fail(&db, worker, &[key]).await;
        for (retried, then) in [(1, "running"), (0, "running")] {
            let sql = "select longhaul.retry_dead_letters('default', p_limit => 1)";
            assert_eq!(db.value::<i64>(sql).await, retried);
            assert_eq!(state(&db, failed).await, then);
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.dead_letter").await, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_undone_is_not_forked_and_a_taken_id_is_no_fork() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([{ "name": "book", "handler": "h", "compensate": "h" }, { "name": "pay", "handler": "h", "after": ["book"] }]),
            json!({}),
        )
        .await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let other = start(&db, "f", json!({})).await;
        let forked = |to: String| {
            let db = db.clone();
            async move {
                let error = db
                    .database
                    .connection()
                    .await
                    .unwrap()
                    .batch_execute(&format!("select longhaul.fork_run('default', '{run}', 'pay', null, {to})"))
                    .await
                    .unwrap_err();
                error.code().unwrap().code().to_owned()
            }
        };
        assert_eq!(forked(format!("'{other}'")).await, "LH004");
        assert_eq!(forked("gen_random_uuid()".into()).await, "LH001");
        assert_eq!(forked("longhaul.uuid_at(now() + interval '45 days')".into()).await, "LH001");
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        complete(&db, worker, &keys).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        fail(&db, worker, &keys).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        complete(&db, worker, &keys).await;
        assert_eq!(state(&db, run).await, "failed");
        assert_eq!(forked("null".into()).await, "LH003");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_undoes_what_it_has_done_and_nothing_of_its_source() {
    with_database(|db| async move {
        let step =
            |name: &str, after: &[&str]| json!({ "name": name, "handler": "h", "compensate": "h", "after": after });
        deploy(&db, "f", json!([step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &["c"])]), json!({}))
            .await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        let connection = db.database.connection().await.unwrap();
        let fork = |step: &str| format!("select longhaul.fork_run('default', '{run}', '{step}')");
        let refused = connection.batch_execute(&fork("b")).await.unwrap_err();
        let refused = refused.as_db_error().unwrap().message();
        assert!(refused.contains("is running and may still undo step a"), "{refused}");
        let whole: Uuid = connection.query_one(&fork("a"), &[]).await.unwrap().get(0);
        db.execute(&format!("select longhaul.stop_run('default', '{whole}')")).await;
        for _ in 0..3 {
            let key = claim_one(&db, worker).await;
            complete(&db, worker, &[key]).await;
        }
        assert_eq!(state(&db, run).await, "completed");

        let forked: Uuid = connection.query_one(&fork("c"), &[]).await.unwrap().get(0);
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        let key = claim_one(&db, worker).await;
        fail(&db, worker, &[key]).await;
        let undo = claim_one(&db, worker).await;
        complete(&db, worker, &[undo]).await;
        assert_eq!((state(&db, forked).await.as_str(), state(&db, run).await.as_str()), ("failed", "completed"));
        let undone: String = db
            .value(&format!(
                "select string_agg(name, ' ') from longhaul.steps where run_id = '{forked}' and name like '%.undo'"
            ))
            .await;
        assert_eq!(undone, "c.undo", "a and b are the source's");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_still_to_be_told_does_not_reach_a_child_that_is_waited_for_again() {
    with_database(|db| async move {
        deploy(&db, "kid", json!([{ "name": "k", "handler": "k" }]), json!({})).await;
        deploy(&db, "par", json!([{ "name": "p", "flow": "kid" }]), json!({})).await;
        let kids = crate::starting::play_worker(&db, &["k"]).await;
        let run = start(&db, "par", json!({})).await;
        let id = child_of(&db, run).await;
        let caller = super::open(&db, &format!("select annotate_run('default', '{id}', '{{}}')")).await;
        db.execute(&format!(
            "select longhaul.stop_run('default', '{run}'); select longhaul.retry_run('default', '{run}')"
        ))
        .await;
        caller.batch_execute("commit").await.unwrap();
        pass(&db, "10 seconds").await;
        let key = claim_one(&db, kids).await;
        complete(&db, kids, &[key]).await;
        chores(&db).await;
        assert_eq!(state(&db, run).await, "completed");
        assert_eq!(child_of(&db, run).await, id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_leaves_without_waiting_for_a_run_that_somebody_holds() {
    with_database(|db| async move {
        let (worker, _) = deploy_both(&db).await;
        let held = start(&db, "f", json!({})).await;
        start(&db, "f", json!({})).await;
        assert_eq!(claim(&db, worker).await.len(), 2);
        let caller = super::open(&db, &format!("select annotate_run('default', '{held}', '{{}}')")).await;
        db.execute(&format!(
            "set lock_timeout = '1s'; select longhaul.deregister_worker({worker}); reset lock_timeout"
        ))
        .await;
        let other = super::worker(&db).await;
        assert_eq!(claim(&db, other).await.len(), 1);
        caller.batch_execute("commit").await.unwrap();
        pass(&db, "2 minutes").await;
        assert_eq!(claim(&db, other).await.len(), 1);
        let outcome: String =
            db.value(&format!("select outcome::text from longhaul.attempt where run_id = '{held}'")).await;
        assert_eq!(outcome, "released", "with no attempt consumed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_somebody_holds_while_its_parent_is_retried_is_gone_on_with_later() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        deploy(&db, "par", json!([{ "name": "p", "flow": "kid" }]), json!({})).await;
        for flow in ["par", "f"] {
            let run = start(&db, flow, json!({})).await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                suspend(&db, worker, key, vec![child("1", "kid")]).await;
            }
            let id = child_of(&db, run).await;
            let key = claim_one(&db, kids).await;
            fail(&db, kids, &[key]).await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                fail(&db, worker, &[key]).await;
            }
            let caller = super::open(&db, &format!("select annotate_run('default', '{id}', '{{}}')")).await;
            db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                suspend(&db, worker, key, vec![child("1", "kid")]).await;
            }
            assert_eq!(state(&db, run).await, "running");
            db.assert_rooms_are_sound().await;
            caller.batch_execute("commit").await.unwrap();
            pass(&db, "10 seconds").await;
            assert_eq!(child_of(&db, run).await, id, "no second child");
            let key = claim_one(&db, kids).await;
            complete(&db, kids, &[key]).await;
            chores(&db).await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                complete(&db, worker, &[key]).await;
            }
            assert_eq!(state(&db, run).await, "completed", "{flow}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_told_late_is_not_the_answer_of_a_retried_function() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        let (run, key) = working_with_child(&db, worker).await;
        let id = child_of(&db, run).await;
        suspend(&db, worker, key, vec![child("1", "kid")]).await;
        let kid = claim_one(&db, kids).await;
        // Its parent is held, so that a notice is left.
        let caller = super::open(&db, &format!("select annotate_run('default', '{run}', '{{}}')")).await;
        fail(&db, kids, &[kid]).await;
        caller.batch_execute("commit").await.unwrap();
        assert_eq!(db.value::<String>("select kind from longhaul.notice").await, "child_ended");
        db.execute(&format!(
            "select longhaul.stop_run('default', '{run}'); select longhaul.retry_run('default', '{run}')"
        ))
        .await;
        pass(&db, "10 seconds").await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, vec![child("1", "kid")]).await;
        let kid = claim_one(&db, kids).await;
        assert_eq!(kid.step.run_id, id, "the child is gone on with");
        complete(&db, kids, &[kid]).await;
        chores(&db).await;
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_ends_with_the_step_that_outside_work_completes() {
    with_database(|db| async move {
        let (worker, _) = deploy_both(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        let outside =
            longhaul::calls::NewWait { topic: Some("t".into()), key: Some("k".into()), ..super::wait("external", "2") };
        suspend(&db, worker, key, vec![child("1", "kid"), outside]).await;
        db.execute("select longhaul.complete_external('default', 't', 'k')").await;
        assert_eq!(state(&db, run).await, "completed");
        chores(&db).await;
        assert_eq!(state(&db, child_of(&db, run).await).await, "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_a_run_whose_id_comes_from_a_clock_ahead_are_found() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        deploy(&db, "par", json!([{ "name": "p", "flow": "kid" }]), json!({})).await;
        for (flow, ahead) in [("par", "2 seconds"), ("par", "23 hours"), ("f", "1 hour")] {
            let run: Uuid = db
                .value(&format!(
                    "select longhaul.start_run('{flow}', p_id => (left(longhaul.uuid_at(clock_timestamp() + interval '{ahead}')::text, 14) || '7'
                       || substr(longhaul.new_run_id()::text, 16))::uuid)"
                ))
                .await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                suspend(&db, worker, key, vec![child("1", "kid")]).await;
            }
            let id = child_of(&db, run).await;
            assert!(id > run);
            let kid = claim_one(&db, kids).await;
            db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await;
            chores(&db).await;
            assert_eq!(state(&db, id).await, "cancelled");
            let refused = db.calls().await.complete(kids, &[(kid, longhaul::Payload::null())]).await.unwrap();
            assert_eq!(refused[0].reason, "lease_lost");
            db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                suspend(&db, worker, key, vec![child("1", "kid")]).await;
            }
            assert_eq!(child_of(&db, run).await, id, "the child is gone on with");
            let kid = claim_one(&db, kids).await;
            complete(&db, kids, &[kid]).await;
            chores(&db).await;
            if flow == "f" {
                let key = claim_one(&db, worker).await;
                complete(&db, worker, &[key]).await;
            }
            assert_eq!(state(&db, run).await, "completed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_with_a_child_that_did_not_end_in_its_time() {
    with_database(|db| async move {
        let (worker, kids) = deploy_both(&db).await;
        let waits =
            || vec![longhaul::calls::NewWait { wait: Some(std::time::Duration::from_secs(60)), ..child("1", "kid") }];
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, waits()).await;
        let id = child_of(&db, run).await;
        claim_one(&db, kids).await;
        for _ in 0..2 {
            pass(&db, "61 seconds").await;
            let key = claim_one(&db, worker).await;
            fail(&db, worker, &[key]).await;
            chores(&db).await;
            assert_eq!(state(&db, id).await, "cancelled");
            db.execute(&format!("select longhaul.retry_run('default', '{run}')")).await;
            let key = claim_one(&db, worker).await;
            suspend(&db, worker, key, waits()).await;
            assert_eq!(child_of(&db, run).await, id, "no second child");
        }
        let kid = claim_one(&db, kids).await;
        complete(&db, kids, &[kid]).await;
        chores(&db).await;
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_being_undone_is_undone_to_its_end_whatever_becomes_of_its_parent() {
    with_database(|db| async move {
        deploy(
            &db,
            "kid",
            json!([{ "name": "a", "handler": "k", "compensate": "k" }, { "name": "b", "handler": "k", "after": ["a"] }]),
            json!({}),
        )
        .await;
        deploy(&db, "par", json!([{ "name": "p", "flow": "kid" }, { "name": "q", "handler": "h" }]), json!({})).await;
        let (worker, kids) = (worker(&db).await, crate::starting::play_worker(&db, &["k"]).await);
        for end in ["failure", "stop"] {
            let run = start(&db, "par", json!({})).await;
            let id = child_of(&db, run).await;
            let key = claim_one(&db, kids).await;
            complete(&db, kids, &[key]).await;
            let key = claim_one(&db, kids).await;
            fail(&db, kids, &[key]).await;
            let key = claim_one(&db, worker).await;
            match end {
                "failure" => fail(&db, worker, &[key]).await,
                _ => db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await,
            }
            chores(&db).await;
            let key = claim_one(&db, kids).await;
            assert!(key.step.run_id == id && key.step.seq >= 32768, "what a has done is undone");
            complete(&db, kids, &[key]).await;
            chores(&db).await;
            assert_eq!(state(&db, id).await, "failed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_continues_as_new_leaves_no_child_behind() {
    with_database(|db| async move {
        let (worker, _) = deploy_both(&db).await;
        let run = start(&db, "f", json!({})).await;
        for round in 1..4 {
            let key = claim_one(&db, worker).await;
            suspend(&db, worker, key, vec![child("1", "kid"), signal("2", "t")]).await;
            let live = "select count(*) from longhaul.run where parent_id is not null and state = 'running'";
            assert_eq!(db.value::<i64>(live).await, 1, "round {round}");
            db.execute(&format!("select longhaul.signal_run('default', '{run}', 't')")).await;
            let key = claim_one(&db, worker).await;
            suspend(&db, worker, key, vec![super::wait("new", "")]).await;
            chores(&db).await;
        }
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        assert_eq!(state(&db, run).await, "completed");
    })
    .await;
}
