//! Questions that lose a race leave nothing behind.

use longhaul::calls::NewWait;
use serde_json::json;

use super::{claim, claim_one, complete, deploy, pass, signal, sleep, start, state, suspend, wait, worker};
use crate::harness::with_database;

async fn paused_for(db: &crate::harness::TestDb) -> i64 {
    db.value("select count(*) from longhaul.run where paused_for is not null").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_loses_a_race_pauses_its_run_no_longer() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }, { "name": "b", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for kind in ["decision", "interrupt"] {
            for other in ["sleep", "signal", "its own time"] {
                let run = start(&db, "f", json!({})).await;
                let claimed = claim(&db, worker).await;
                let waits: Vec<NewWait> = match other {
                    "sleep" => vec![wait(kind, "1"), sleep("2", 300)],
                    "signal" => vec![wait(kind, "1"), signal("2", "t")],
                    _ => vec![NewWait { wait: Some(std::time::Duration::from_millis(300)), ..wait(kind, "1") }],
                };
                suspend(&db, worker, claimed[0].key, waits).await;
                assert_eq!(state(&db, run).await, "paused");
                // The other step fails once meanwhile, and is kept back.
                db.execute(&format!(
                    "select * from longhaul.release({worker}, '{{{run}}}', '{{{}}}', '{{1}}')",
                    claimed[1].key.step.seq
                ))
                .await;
                if other == "signal" {
                    db.execute(&format!("select longhaul.signal_run('default', '{run}', 't')")).await;
                } else {
                    pass(&db, "1 second").await;
                }
                assert_eq!(paused_for(&db).await, 0, "{kind} beside {other}");
                assert_eq!(db.value::<i64>("select count(*) from longhaul.questions").await, 0);
                let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
                assert_eq!(keys.len(), 2, "{kind} beside {other}");
                complete(&db, worker, &keys).await;
                assert_eq!(state(&db, run).await, "completed");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_still_open_keeps_the_run_paused_when_another_is_gone() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }, { "name": "b", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let claimed = claim(&db, worker).await;
        suspend(&db, worker, claimed[0].key, vec![wait("decision", "1"), sleep("2", 300)]).await;
        suspend(&db, worker, claimed[1].key, vec![wait("decision", "1")]).await;
        pass(&db, "1 second").await;
        assert_eq!(state(&db, run).await, "paused");
        assert_eq!(claim(&db, worker).await.len(), 0);
        db.execute(&format!("select longhaul.decide('default', '{run}', 'b', 'approve')")).await;
        assert_eq!(claim(&db, worker).await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_an_operator_outlives_a_question() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        let run = start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        db.execute(&format!("select longhaul.pause_run('default', '{run}')")).await;
        suspend(&db, worker, key, vec![wait("decision", "1"), sleep("2", 300)]).await;
        pass(&db, "1 second").await;
        assert_eq!(state(&db, run).await, "paused");
        db.execute(&format!("select longhaul.resume_run('default', '{run}')")).await;
        claim_one(&db, worker).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_can_answer_is_refused() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for (wait, reason) in [
            (r#"{"kind": "decision", "prompt": {"choices": [1, 2]}}"#, "a question needs a list of choices"),
            (r#"{"kind": "decision", "prompt": {"choices": []}}"#, "a question needs a list of choices"),
            (r#"{"kind": "decision", "prompt": {"by": [7]}}"#, "who may answer"),
            (r#"{"kind": "interrupt", "prompt": {"pauses": "step"}}"#, "an interrupt pauses its run"),
        ] {
            let run = start(&db, "f", json!({})).await;
            claim_one(&db, worker).await;
            let refusal: String = db
                .value(&format!("select refusal from longhaul.suspend({worker}, '{{{run}}}', '{{0}}', '{{1}}', array['[{wait}]'::jsonb])"))
                .await;
            assert!(refusal.contains(reason), "{refusal}");
            assert_eq!(state(&db, run).await, "failed");
        }
        // A null says nothing.
        let run = start(&db, "f", json!({})).await;
        claim_one(&db, worker).await;
        db.execute(&format!(
            "select longhaul.suspend({worker}, '{{{run}}}', '{{0}}', '{{1}}', array['[{{\"kind\": \"decision\", \"prompt\": {{\"choices\": null, \"by\": null, \"pauses\": null}}}}]'::jsonb])"
        ))
        .await;
        assert_eq!(state(&db, run).await, "paused");
        assert_eq!(
            db.value::<String>("select choices ->> 0 || coalesce(may_answer::text, '') from longhaul.questions").await,
            "approve"
        );
        db.execute(&format!("select longhaul.decide('default', '{run}', 'a', 'approve')")).await;
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
    })
    .await;
}
