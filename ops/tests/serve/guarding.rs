//! What pages of other sites try.

use reqwest::Method;
use serde_json::json;

use crate::api::{Api, answer};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_pointed_here_is_refused() {
    let api = Api::new().await;
    for host in ["evil.example", "evil.example:7070", "localhost.evil.example", "10.0.0.7:7070", "127.0.0.1.nip.io"] {
        for path in ["overview", "/", "/api/openapi.json", "/healthz"] {
            let refused = answer(api.request(Method::GET, path).header("Host", host)).await;
            assert_eq!(refused.problem(403), "foreign", "{host} {path}");
        }
    }
    for host in ["localhost", "localhost:9999", "127.0.0.1", "[::1]:7070"] {
        assert_eq!(answer(api.request(Method::GET, "overview").header("Host", host)).await.status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_changes_nothing() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let run = api.start_idle("order").await;
    let stop = format!("runs/{run}/stop");
    // What a form or a script of another site can send unasked.
    let form = api.request(Method::POST, &stop).header("Content-Type", "application/x-www-form-urlencoded").body("a=b");
    assert_eq!(answer(form).await.problem(403), "foreign");
    let plain = api.request(Method::POST, &stop).header("Content-Type", "text/plain").body("{}");
    assert_eq!(answer(plain).await.problem(403), "foreign");
    let bare = api.request(Method::POST, &stop);
    assert_eq!(answer(bare).await.problem(403), "foreign");
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let json = api.request(Method::POST, &stop).json(&json!({})).header("Origin", origin);
        assert_eq!(answer(json).await.problem(403), "foreign", "{origin}");
    }
    assert_eq!(api.get(&format!("runs/{run}")).await.good()["state"], "running");
    // Our own page.
    let own = api.request(Method::POST, &stop).json(&json!({})).header("Origin", &api.base);
    assert_eq!(answer(own).await.good()["state"], "cancelled");
    // No answer invites another site to read.
    let read = api.request(Method::GET, "overview").header("Origin", "https://evil.example").send().await.unwrap();
    assert!(!read.headers().contains_key("access-control-allow-origin"));
}
