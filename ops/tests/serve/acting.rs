//! Every address that changes something, and the record of it.

use longhaul_schema::{Approval, Flow, Step, calls::RunState};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, answer};

fn id(value: &Value) -> Uuid {
    value["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_and_steered() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let start = api
        .post("flows/order/runs", json!({ "input": { "n": 7 }, "name": "Order 7", "key": "k", "key_for": "1h" }))
        .await;
    assert_eq!(start.status, 201, "{start:?}");
    let run = id(&start.good());
    let again = api.post("flows/order/runs", json!({ "input": { "n": 7 }, "key": "k", "key_for": "1h" })).await;
    assert_eq!((again.status, id(&again.body), &again.body["existing"]), (200, run, &json!(true)));
    let other = api.post("flows/order/runs", json!({ "input": { "n": 8 }, "key": "k" })).await;
    assert_eq!(other.problem(409), "conflict");

    let paused = api.post(&format!("runs/{run}/pause"), json!({ "expected_state": "running" })).await.good();
    assert_eq!(paused["state"], "paused");
    let refused = api.post(&format!("runs/{run}/pause"), json!({})).await;
    assert_eq!(refused.problem(409), "refused");
    let unexpected = api.post(&format!("runs/{run}/resume"), json!({ "expected_revision": 99 })).await;
    assert_eq!(unexpected.problem(412), "not-as-expected");
    let bare = answer(api.request(Method::POST, &format!("runs/{run}/resume")).header("X-Requested-By", "test")).await;
    assert_eq!(bare.good()["state"], "running");
    let renamed =
        answer(api.request(Method::PATCH, &format!("runs/{run}")).json(&json!({ "name": "Order Seven" }))).await;
    renamed.good();
    let annotated = api.request(Method::PATCH, &format!("runs/{run}")).json(&json!({ "metadata": { "ticket": 4711 } }));
    answer(annotated).await.good();
    let stopped = answer(
        api.request(Method::POST, &format!("runs/{run}/stop"))
            .json(&json!({}))
            .header("X-Reason", "wrong%20input%20%C3%A9")
            .header("X-By", "anna"),
    );
    assert_eq!(stopped.await.good()["state"], "cancelled");
    let now = api.client().await.get(run).await.unwrap();
    assert_eq!((now.state, now.name.as_deref()), (RunState::Cancelled, Some("Order Seven")));
    assert_eq!(api.post(&format!("runs/{run}/stop"), json!({})).await.problem(409), "refused");
    api.post(&format!("runs/{run}/retry"), json!({})).await.good();
    let fork = api.post(&format!("runs/{run}/fork"), json!({ "step": "a", "input": { "n": 9 } })).await;
    assert_eq!(fork.status, 201, "{fork:?}");
    assert_eq!(api.get(&format!("runs/{}", id(&fork.body))).await.good()["forked_from"], json!(run));
    assert_eq!(api.delete(&format!("runs/{run}")).await.problem(409), "refused");
    api.post(&format!("runs/{run}/stop"), json!({})).await.good();
    api.post(&format!("runs/{run}/dismiss"), json!({})).await.good();
    api.post(&format!("runs/{run}/undismiss"), json!({})).await.good();
    api.delete(&format!("runs/{run}")).await.good();
    assert_eq!(api.get(&format!("runs/{run}")).await.problem(404), "not-found");

    let record = api.get(&format!("audit?target={run}&act=stop%20run")).await.good();
    let acts = record["acts"].as_array().unwrap();
    assert_eq!(acts.len(), 3, "{record}");
    let first = &acts[2];
    assert_eq!((&first["actor"], &first["reason"]), (&json!("anna"), &json!("wrong input é")));
    assert_eq!((&first["before"]["state"], &first["after"]["state"]), (&json!("running"), &json!("cancelled")));
    assert_eq!((&first["outcome"], &acts[1]["outcome"]), (&json!("done"), &json!("refused")));
    assert!(acts[1]["error"].as_str().unwrap().contains("cannot be"), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_started_in_lists_created_delayed_and_begun() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let many = api
        .post("flows/order/runs/batch", json!([{ "input": 1 }, { "input": 2, "priority": 5000 }, { "input": null }]))
        .await
        .good();
    assert_eq!((many["started"].as_array().unwrap().len(), &many["refused"][0]["index"]), (2, &json!(1)));
    let created = id(&api.post("flows/order/runs", json!({ "create_only": true })).await.good());
    assert_eq!(api.get(&format!("runs/{created}")).await.good()["state"], "pending");
    assert_eq!(api.post(&format!("runs/{created}/begin"), json!({})).await.good()["state"], "running");
    let delayed = id(&api.post("flows/order/runs", json!({ "delay": "2h", "deadline": "1d" })).await.good());
    assert_eq!(api.get(&format!("runs/{delayed}")).await.good()["state"], "pending");
    for (body, status) in [
        (json!({ "inputs": {} }), 422),
        (json!({ "delay": "soon" }), 422),
        (json!({ "priority": 99999 }), 422),
        (json!({ "key_for": "1h" }), 422),
        (json!({ "id": "01a2" }), 422),
        (json!([]), 422),
    ] {
        assert_eq!(api.post("flows/order/runs", body.clone()).await.status, status, "{body}");
    }
    assert_eq!(api.post("flows/none/runs", json!({})).await.problem(404), "not-found");
    let broken = api.request(Method::POST, "flows/order/runs").header("Content-Type", "application/json").body("{");
    assert_eq!(answer(broken).await.problem(400), "malformed");
    let text = api
        .request(Method::POST, "flows/order/runs")
        .header("Content-Type", "text/plain")
        .header("X-Requested-By", "t")
        .body("{}");
    assert_eq!(answer(text).await.problem(415), "media");
    let large = "x".repeat(17 * 1024 * 1024);
    let large = api.request(Method::POST, "flows/order/runs").json(&json!({ "input": large }));
    assert_eq!(answer(large).await.problem(413), "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_schedules_locks_and_policies_are_set() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let client = api.client().await;
    assert_eq!(api.post("queues/default/pause", json!({})).await.good()["changed"], true);
    assert_eq!(api.post("queues/default/pause", json!({})).await.good()["changed"], false);
    assert_eq!(api.get("overview").await.good()["paused_queues"], json!(["default"]));
    api.post("queues/default/resume", json!({})).await.good();
    api.put("queues/default/limits", json!({ "max_running": 3, "rate": { "limit": 5, "per": "1s" } })).await.good();
    assert_eq!(api.get("queues").await.good()[0]["rate"], json!({ "limit": 5, "per_ms": 1000 }));
    assert_eq!(api.put("queues/default/limits", json!({ "max_running": -3 })).await.problem(422), "invalid");
    assert_eq!(api.post("queues/none/pause", json!({})).await.problem(404), "not-found");

    api.put(
        "schedules/nightly",
        json!({ "cron": "0 3 * * *", "flow": "order", "zone": "Europe/Berlin", "overlap": "allow" }),
    )
    .await
    .good();
    assert_eq!(api.put("schedules/wrong", json!({ "cron": "x", "flow": "order" })).await.problem(422), "invalid");
    assert_eq!(api.post("schedules/nightly/pause", json!({})).await.good()["changed"], true);
    assert_eq!(api.post("schedules/nightly/resume", json!({})).await.good()["changed"], true);
    let triggered = api.post("schedules/nightly/trigger", json!({})).await.good();
    assert_eq!(api.get(&format!("runs/{}", triggered["run"].as_str().unwrap())).await.good()["name"], "nightly");
    let days = json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z" });
    let mut preview = days.clone();
    preview["dry_run"] = true.into();
    assert_eq!(api.post("schedules/nightly/backfill", preview).await.good()["ticks"], 7);
    assert_eq!(api.post("schedules/nightly/backfill", days.clone()).await.good()["started"], 7);
    assert_eq!(
        api.post("schedules/nightly/backfill", days).await.good()["started"],
        0,
        "each tick has its run already"
    );
    let all = json!({ "from": "2000-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z" });
    assert_eq!(api.post("schedules/nightly/backfill", all).await.problem(422), "invalid");
    assert_eq!(api.get("schedules/nightly").await.good()["past"].as_array().unwrap().len(), 8);
    api.delete("schedules/nightly").await.good();
    assert_eq!(api.delete("schedules/nightly").await.problem(404), "not-found");

    let _held = client.try_lock("a/b", "me", std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(api.post("locks/release", json!({ "name": "a/b" })).await.good()["changed"], true);
    assert_eq!(api.post("locks/release", json!({ "name": "a/b" })).await.good()["changed"], false);
    assert_eq!(api.post("locks/release", json!({ "name": "none" })).await.problem(404), "not-found");

    api.put("retention/policies/old", json!({ "age": "30d", "state": "completed", "keep_last": 5 })).await.good();
    assert_eq!(api.get("retention").await.good()["policies"][0]["age_seconds"], 30 * 86400);
    assert_eq!(api.get("retention/plan").await.good()[0]["runs"], 0);
    assert_eq!(api.put("retention/policies/bad", json!({ "age": "30d", "state": "running" })).await.status, 422);
    api.delete("retention/policies/old").await.good();

    let flow = json!({ "name": "new", "version": 1, "steps": [{ "name": "a", "handler": "x" }] });
    assert_eq!(api.post("flows", flow.clone()).await.good()["created"], true);
    assert_eq!(api.post("flows", flow).await.good()["created"], false);
    let other = json!({ "name": "new", "version": 1, "steps": [{ "name": "b", "handler": "x" }] });
    assert_eq!(api.post("flows", other).await.problem(409), "conflict");
    let bad = json!({ "name": "new", "version": 2, "steps": [{ "name": "a", "handler": "x", "after": ["z"] }] });
    assert_eq!(api.post("flows", bad).await.problem(422), "invalid");
    let acts = api.get("audit?limit=1000").await.good();
    assert!(acts["acts"].as_array().unwrap().iter().all(|act| act["outcome"].is_string()), "{acts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_questions_workers_and_dead_letters_are_dealt_with() {
    let api = Api::new().await;
    let client = api.client().await;
    api.deploy_idle("order").await;
    client
        .deploy(&Flow::new("asks", 1).step(Step::new("a", "nobody").approval(Approval::ask("Go on?"))))
        .await
        .unwrap();
    let run = api.start_idle("order").await;
    let sent = api.post("signals", json!({ "topic": "t", "run": run, "payload": { "x": 1 } })).await.good();
    assert!(sent["signal"].is_i64());
    api.post("signals", json!({ "topic": "t", "key": "k" })).await.good();
    assert_eq!(api.post("signals", json!({ "topic": "t" })).await.problem(422), "invalid");
    assert_eq!(api.post("signals", json!({ "topic": "t", "key": "k", "run": run })).await.problem(422), "invalid");
    api.post("signals/complete", json!({ "topic": "done", "key": "k", "output": 7 })).await.good();
    assert_eq!(api.post("signals/broadcast", json!({ "topic": "t", "flow": "order" })).await.good()["runs"], 1);

    let asking = client.start("asks", &json!({})).await.unwrap().id();
    let answer = json!({ "run": asking, "step": "a", "choice": "approve" });
    assert_eq!(api.post("questions/answer", answer.clone()).await.good()["changed"], true);
    assert_eq!(api.post("questions/answer", answer).await.good()["changed"], false);
    let other = json!({ "run": asking, "step": "a", "choice": "reject" });
    assert_eq!(api.post("questions/answer", other).await.problem(409), "refused");

    let dead = api.failed_run().await;
    assert_eq!(api.post("dead-letters/retry", json!({})).await.problem(422), "invalid");
    let preview = api.post("dead-letters/retry", json!({ "all": true, "dry_run": true })).await.good();
    assert_eq!((&preview["count"], &preview["runs"], &preview["act"]), (&json!(1), &json!([dead]), &Value::Null));
    assert_eq!(api.post("dead-letters/discard", json!({ "run": dead })).await.good()["count"], 1);
    assert_eq!(api.get("dead-letters").await.good(), json!([]));
    assert_eq!(api.post("dead-letters/retry", json!({ "all": true })).await.good()["count"], 0);

    let worker = api.get("workers").await.good()[0]["id"].as_i64().unwrap();
    assert_eq!(api.post(&format!("workers/{worker}/drain"), json!({})).await.good()["changed"], true);
    assert_eq!(api.post("workers/7/drain", json!({})).await.problem(404), "not-found");
}
