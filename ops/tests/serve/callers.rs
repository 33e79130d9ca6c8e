//! Tokens, scopes, tenants.

use std::num::NonZeroU32;

use longhaul_ops::serve::{ServeError, ServeOptions, Server};
use longhaul_schema::Config;
use reqwest::Method;
use serde_json::json;

use crate::api::{Answer, Api, answer, http};

async fn token(api: &Api, arguments: &[&str]) -> String {
    let output = api.installation.longhaul(&[&["token", "create", "--json"], arguments].concat()).await;
    assert!(output.status.success(), "{output:?}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    printed["token"].as_str().unwrap().to_owned()
}

async fn with(api: &Api, token: &str, method: Method, path: &str) -> Answer {
    let request = api.request(method.clone(), path).bearer_auth(token);
    answer(if method == Method::GET { request } else { request.json(&json!({})) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_say_what_a_token_may() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    let run = api.start_idle("order").await;
    assert_eq!(api.get("overview").await.status, 200, "nobody needs a token yet");
    let (reader, operator, admin) = (
        token(&api, &["r"]).await,
        token(&api, &["o", "--scope", "operate"]).await,
        token(&api, &["a", "--scope", "admin"]).await,
    );
    assert_eq!(api.get("overview").await.problem(401), "unauthorized", "now everybody does");
    assert_eq!(api.get("events?topics=overview").await.problem(401), "unauthorized");
    assert_eq!(api.get("/healthz").await.status, 200, "probes do not");
    for wrong in ["", "x", &format!("{}0", &admin[..admin.len() - 1]), &admin.to_uppercase(), "lh_0000000000000000_00"]
    {
        assert_eq!(with(&api, wrong, Method::GET, "overview").await.problem(401), "unauthorized", "{wrong:?}");
    }
    let basic = answer(api.request(Method::GET, "overview").basic_auth("a", Some(&admin))).await;
    assert_eq!(basic.problem(401), "unauthorized");
    let stop = format!("runs/{run}/stop");
    assert_eq!(with(&api, &reader, Method::GET, "overview").await.status, 200);
    assert_eq!(with(&api, &reader, Method::POST, &stop).await.problem(403), "forbidden");
    assert_eq!(with(&api, &operator, Method::POST, &stop).await.status, 200);
    assert_eq!(with(&api, &operator, Method::DELETE, &format!("runs/{run}")).await.problem(403), "forbidden");
    let bulk =
        api.request(Method::POST, "runs/bulk").bearer_auth(&operator).json(&json!({ "act": "delete", "filter": {} }));
    assert_eq!(answer(bulk).await.problem(403), "forbidden");
    // The name of the token is who acts, whatever is said.
    let said = api.request(Method::DELETE, &format!("runs/{run}")).bearer_auth(&admin).header("X-By", "somebody else");
    answer(said).await.good();
    assert_eq!(with(&api, &admin, Method::GET, "audit").await.good()["acts"][0]["actor"], "a");
    // Revoked, it counts no more at once; its name is free again.
    assert!(api.installation.longhaul(&["token", "revoke", "r"]).await.status.success());
    assert_eq!(with(&api, &reader, Method::GET, "overview").await.problem(401), "unauthorized");
    assert_eq!(api.installation.longhaul(&["token", "create", "o"]).await.status.code(), Some(4));
    token(&api, &["r", "--expires", "1ms"]).await;
    let listed = api.installation.longhaul(&["token", "list"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("expired") && !listed.contains("lh_"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_its_tenants() {
    let api = Api::new().await;
    let tenant_of = |name: &str| -> Config { api.installation.config.clone().tenant(name).unwrap() };
    for name in ["shop", "bank"] {
        let client = longhaul_scheduler::Client::connect(&tenant_of(name)).await.unwrap();
        let flow = longhaul_schema::Flow::new("f", 1).step(longhaul_schema::Step::new("a", "nobody"));
        client.deploy(&flow).await.unwrap();
        client.start("f", &json!({})).await.unwrap();
    }
    let shop = token(&api, &["shop", "--scope", "admin", "--for-tenant", "shop"]).await;
    let session = with(&api, &shop, Method::GET, "session").await.good();
    assert_eq!((&session["tenant"], &session["tenants"]), (&json!("shop"), &json!(["shop"])));
    assert_eq!(with(&api, &shop, Method::GET, "runs").await.good()["runs"].as_array().unwrap().len(), 1);
    for tenant in ["bank", "default"] {
        let other = with(&api, &shop, Method::GET, &format!("runs?tenant={tenant}")).await;
        assert_eq!(other.problem(403), "forbidden", "{tenant}");
    }
    let bank = longhaul_scheduler::Client::connect(&tenant_of("bank")).await.unwrap();
    let theirs = bank.list(&Default::default()).await.unwrap()[0].id;
    for path in ["", "/steps", "/timeline", "/graph", "/attempts", "/why"] {
        assert_eq!(with(&api, &shop, Method::GET, &format!("runs/{theirs}{path}")).await.problem(404), "not-found");
    }
    assert_eq!(with(&api, &shop, Method::POST, &format!("runs/{theirs}/stop")).await.problem(404), "not-found");
    assert_eq!(with(&api, &shop, Method::DELETE, &format!("runs/{theirs}")).await.problem(404), "not-found");
    // What concerns all tenants is for tokens that are for all.
    assert_eq!(with(&api, &shop, Method::GET, "doctor").await.problem(403), "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_logs_in_with_a_cookie_that_scripts_cannot_read() {
    let api = Api::new().await;
    let secret = token(&api, &["anna", "--scope", "operate"]).await;
    assert_eq!(api.post("login", json!({ "token": "lh_0" })).await.problem(401), "unauthorized");
    let response = api.request(Method::POST, "login").json(&json!({ "token": secret })).send().await.unwrap();
    assert_eq!(response.status(), 204);
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let session = answer(api.request(Method::GET, "session").header("Cookie", format!("a=b; {pair}"))).await;
    assert_eq!(session.good()["who"], "anna");
    // With a cookie a page of another site is refused as ever.
    let foreign = api.request(Method::POST, "queues/default/pause").header("Cookie", pair).body("{}");
    assert_eq!(answer(foreign).await.problem(403), "foreign");
    let out = api.request(Method::POST, "logout").json(&json!({})).send().await.unwrap();
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_machines_are_served_only_with_tokens() {
    let api = Api::new().await;
    let options = ServeOptions::on("0.0.0.0:0".parse().unwrap());
    let refused = Server::bind(&api.installation.config, options.clone()).await;
    match refused {
        Err(ServeError::Unsafe(reason)) => assert!(reason.contains("longhaul token create"), "{reason}"),
        _ => panic!("it is refused"),
    }
    let secret = token(&api, &["a"]).await;
    let server = Server::bind(&api.installation.config, options).await.unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/session", server.address().port());
    tokio::spawn(server.run_until(std::future::pending()));
    assert_eq!(answer(http().get(&url)).await.problem(401), "unauthorized");
    assert_eq!(answer(http().get(&url).bearer_auth(&secret).header("Host", "longhaul.example")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_to_wait() {
    let api = Api::new().await;
    let rate = NonZeroU32::new(2).unwrap();
    let options = ServeOptions { rate, ..ServeOptions::on("127.0.0.1:0".parse().unwrap()) };
    let server = Server::bind(&api.installation.config, options).await.unwrap();
    let url = format!("{}api/v1/session", server.url());
    tokio::spawn(server.run_until(std::future::pending()));
    let client = http();
    let answers = futures::future::join_all((0..30).map(|_| answer(client.get(&url)))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!((10..30).contains(&refused.len()), "{} were refused", refused.len());
    assert_eq!(refused[0].problem(429), "too-many");
}
