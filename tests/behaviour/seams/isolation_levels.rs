//! Callers in other isolation levels are served, or told to come again; nothing is accepted and lost.

use serde_json::json;

use super::{claim_one, deploy, pass, signal, sleep, start, state, suspend, wait, worker};
use crate::harness::with_database;

const LEVELS: [&str; 2] = ["repeatable read", "serializable"];

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_from_an_old_snapshot_meets_a_wait_that_it_cannot_see() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for level in LEVELS {
            for (kind, send) in [
                ("run", "select longhaul.signal_run('default', ':run', 't')"),
                ("topic", "select longhaul.send_signal('default', 't', ':run')"),
                ("completion", "select longhaul.complete_external('default', 't', ':run')"),
                ("all runs", "select longhaul.broadcast_signal('default', 't')"),
            ] {
                let run = start(&db, "f", json!({})).await;
                let key = claim_one(&db, worker).await;
                let caller = db.database.connection().await.unwrap();
                caller.batch_execute(&format!("begin isolation level {level}; select count(*) from longhaul.flow")).await.unwrap();
                let mut waits = match kind {
                    "topic" => signal("0", "t"),
                    "completion" => wait("external", "0"),
                    _ => signal("0", "t"),
                };
                waits.topic = Some("t".into());
                if kind == "topic" || kind == "completion" {
                    waits.key = Some(run.to_string());
                }
                suspend(&db, worker, key, vec![waits]).await;
                // Sent, or refused with an error that says: come again.
                let sent = caller.batch_execute(&send.replace(":run", &run.to_string())).await;
                if let Err(error) = &sent {
                    assert_eq!(error.code().unwrap().code(), "40001", "{level} {kind}: {error:?}");
                }
                caller.batch_execute(if sent.is_ok() { "commit" } else { "rollback" }).await.unwrap();
                if sent.is_err() {
                    db.execute(&send.replace(":run", &run.to_string())).await;
                }
                pass(&db, "1 second").await;
                if kind == "completion" {
                    assert_eq!(state(&db, run).await, "completed", "{level} {kind}");
                } else {
                    claim_one(&db, worker).await;
                }
                db.execute(&format!("select longhaul.stop_run('default', '{run}') where exists (select from longhaul.run where id = '{run}' and state = 'running')")).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_from_an_old_snapshot_meets_a_signal_that_it_cannot_see() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        for level in LEVELS {
            let run = start(&db, "f", json!({})).await;
            let key = claim_one(&db, worker).await;
            let caller = db.database.connection().await.unwrap();
            caller.batch_execute(&format!("begin isolation level {level}; select count(*) from longhaul.flow")).await.unwrap();
            db.execute(&format!("select longhaul.signal_run('default', '{run}', 't')")).await;
            let suspending = format!(
                "select * from longhaul.suspend({worker}, '{{{run}}}', '{{0}}', '{{{}}}', array['[{{\"kind\": \"signal\", \"path\": \"0\", \"topic\": \"t\"}}]'::jsonb])",
                key.attempt
            );
            let sent = caller.batch_execute(&suspending).await;
            caller.batch_execute(if sent.is_ok() { "commit" } else { "rollback" }).await.unwrap();
            if let Err(error) = sent {
                assert_eq!(error.code().unwrap().code(), "40001");
                db.execute(&suspending).await;
            }
            pass(&db, "1 second").await;
            claim_one(&db, worker).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_from_an_old_snapshot_holds_every_step_or_is_refused() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([{ "name": "a", "handler": "h", "retry": { "attempts": 5, "backoff": "1s" } }]),
            json!({}),
        )
        .await;
        let worker = worker(&db).await;
        for level in LEVELS {
            for change in ["fail", "suspend"] {
                let run = start(&db, "f", json!({})).await;
                let key = claim_one(&db, worker).await;
                let caller = db.database.connection().await.unwrap();
                caller
                    .batch_execute(&format!("begin isolation level {level}; select count(*) from longhaul.flow"))
                    .await
                    .unwrap();
                match change {
                    "fail" => {
                        db.execute(&format!(
                            "select * from longhaul.release({worker}, '{{{run}}}', '{{0}}', '{{{}}}')",
                            key.attempt
                        ))
                        .await
                    }
                    _ => {
                        suspend(&db, worker, key, vec![sleep("0", 1)]).await;
                        pass(&db, "1 second").await;
                    }
                }
                let paused = caller.batch_execute(&format!("select longhaul.pause_run('default', '{run}')")).await;
                caller.batch_execute(if paused.is_ok() { "commit" } else { "rollback" }).await.unwrap();
                let ready: i64 = db.value(&format!("select count(*) from longhaul.task where run_id = '{run}'")).await;
                match paused {
                    Ok(()) => assert_eq!(ready, 0, "{level} {change}"),
                    Err(error) => assert_eq!(error.code().unwrap().code(), "40001"),
                }
                db.execute(&format!("select longhaul.stop_run('default', '{run}')")).await;
            }
        }
    })
    .await;
}
