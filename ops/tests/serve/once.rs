//! Idempotency keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Answer, Api, answer};

async fn keyed(api: &Api, key: &str, path: &str, body: Value) -> Answer {
    answer(api.request(Method::POST, path).json(&body).header("Idempotency-Key", key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_a_key_is_carried_out_once() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let first = keyed(&api, "k", "flows/order/runs", json!({ "input": 1 })).await;
    let second = keyed(&api, "k", "flows/order/runs", json!({ "input": 1 })).await;
    assert_eq!((first.status, first.replayed, second.status, second.replayed), (201, false, 201, true));
    assert_eq!(first.body, second.body);
    assert_eq!(keyed(&api, "k", "flows/order/runs", json!({ "input": 2 })).await.problem(422), "key-reused");
    assert_eq!(keyed(&api, "", "flows/order/runs", json!({})).await.problem(422), "invalid");
    assert_eq!(keyed(&api, &"x".repeat(201), "flows/order/runs", json!({})).await.problem(422), "invalid");
    // What was refused stays refused under its key.
    let refused = keyed(&api, "none", "flows/none/runs", json!({})).await;
    assert_eq!(refused.problem(404), "not-found");
    api.deploy_idle("none").await;
    let again = keyed(&api, "none", "flows/none/runs", json!({})).await;
    assert_eq!((again.problem(404), again.replayed), ("not-found", true));
    assert_eq!(api.get("runs").await.good()["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_under_one_key_are_one() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let all = (0..12).map(|_| keyed(&api, "at once", "flows/order/runs", json!({ "input": 1 })));
    let answers = futures::future::join_all(all).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body), "{answers:?}");
    assert_eq!(api.get("runs").await.good()["runs"].as_array().unwrap().len(), 1);
    // A list too, and what has no id of its own.
    api.put("schedules/s", json!({ "cron": "0 3 * * *", "flow": "order" })).await.good();
    for path in ["schedules/s/trigger", "signals"] {
        let body = if path == "signals" { json!({ "topic": "t", "key": "k" }) } else { json!({}) };
        let answers = futures::future::join_all((0..6).map(|_| keyed(&api, path, path, body.clone()))).await;
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body), "{answers:?}");
    }
    let batch = json!([{ "input": 1 }, { "input": 2 }]);
    keyed(&api, "batch", "flows/order/runs/batch", batch.clone()).await.good();
    keyed(&api, "batch", "flows/order/runs/batch", batch).await.good();
    assert_eq!(api.get("runs").await.good()["runs"].as_array().unwrap().len(), 4);
    assert_eq!(api.get("signals").await.good()["signals"].as_array().unwrap().len(), 1);
}
