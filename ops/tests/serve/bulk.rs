//! Acts on many runs.

use serde_json::{Value, json};

use crate::api::Api;

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_previewed_stopped_and_told() {
    let api = Api::new().await;
    api.deploy_idle("many").await;
    api.deploy_idle("other").await;
    let client = api.client().await;
    let ids = client.start_many("many", 0..1500).await.unwrap().ids();
    let other = api.start_idle("other").await;
    client.run(ids[0]).stop().await.unwrap();

    let preview =
        api.post("runs/bulk", json!({ "act": "stop", "filter": { "flow": "many" }, "dry_run": true })).await.good();
    assert_eq!((&preview["matched"], &preview["done"], &preview["act"]), (&json!(1499), &json!(0), &Value::Null));
    assert_eq!(preview["runs"].as_array().unwrap().len(), 100);
    assert_eq!(api.get("audit").await.good()["acts"], json!([]), "a preview is no act");

    let (mut done, mut after, mut rounds) = (0, Value::Null, 0);
    loop {
        let mut filter = json!({ "flow": "many" });
        if after.is_string() {
            filter["after"] = after;
        }
        let part = api.post("runs/bulk", json!({ "act": "stop", "filter": filter })).await.good();
        done += part["done"].as_i64().unwrap();
        rounds += 1;
        after = part["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!((done, rounds), (1499, 2));
    assert_eq!(api.get(&format!("runs/{other}")).await.good()["state"], "running", "the filter counts");
    let acts = api.get("audit?act=stop%20runs").await.good();
    assert_eq!(acts["acts"][1]["after"], json!({ "matched": 1000, "done": 1000, "refused": 0 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_on_many_is_taken_back() {
    let api = Api::new().await;
    api.deploy_idle("many").await;
    let ids = api.client().await.start_many("many", 0..20).await.unwrap().ids();
    let paused = api.post("runs/bulk", json!({ "act": "pause", "runs": ids })).await.good();
    assert_eq!((&paused["done"], &paused["undo"]), (&json!(20), &json!("resume")));
    let resumed = api.post("runs/bulk", json!({ "act": paused["undo"], "filter": { "flow": "many" } })).await.good();
    assert_eq!(resumed["done"], 20);
    api.post("runs/bulk", json!({ "act": "stop", "filter": {} })).await.good();
    assert_eq!(
        api.post("runs/bulk", json!({ "act": "delete", "filter": { "state": "cancelled" } })).await.good()["done"],
        20
    );
    assert_eq!(api.get("runs").await.good()["runs"], json!([]));
    for wrong in [
        json!({ "act": "stop" }),
        json!({ "act": "explode", "filter": {} }),
        json!({ "act": "stop", "filter": { "flw": "many" } }),
        json!({ "act": "stop", "filter": {}, "runs": [] }),
    ] {
        assert_eq!(api.post("runs/bulk", wrong.clone()).await.problem(422), "invalid", "{wrong}");
    }
    assert_eq!(api.post("runs/bulk", json!({ "act": "stop", "runs": ids })).await.problem(404), "not-found");
}
