//! Every address that can be read, and what is wrong with a question.

use std::collections::HashSet;

use longhaul_scheduler::{Schedule, Start, Unique};
use longhaul_schema::{Approval, Flow, Payload, Step, calls::NewSignal};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, answer};

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_read() {
    let api = Api::new().await;
    let client = api.client().await;
    api.deploy_idle("order").await;
    let run = client.start_with("order", Start::new(&json!({ "n": 7 })).unwrap().name("Order 7")).await.unwrap();
    run.signal("paid", &json!({ "cents": 1 })).await.unwrap();
    client.send_signal("order-7", NewSignal::new("paid", Payload::null())).await.unwrap();
    client.schedule(&Schedule::new("nightly", "0 3 * * *", "order")).await.unwrap();
    let _held = client.try_lock("door", "me", std::time::Duration::from_secs(60)).await.unwrap();
    client.deploy(&Flow::new("asks", 1).step(Step::new("a", "x").approval(Approval::ask("Go on?")))).await.unwrap();
    let asking = client.start("asks", &json!({})).await.unwrap();
    let dead = api.failed_run().await;
    let (id, asking) = (run.id(), asking.id());

    let overview = api.get("overview").await.good();
    assert_eq!(overview["steps"]["ready"], json!({ "count": 1, "more": false }));
    assert_eq!(overview["steps"]["waiting"]["count"], 1);
    assert_eq!(overview["dead_letters"]["count"], 1);
    assert_eq!(overview["questions"]["count"], 1);
    assert_eq!(overview["oldest_ready"]["run"], json!(id));
    assert_eq!(overview["throughput"].as_array().unwrap().len(), 60);
    assert_eq!(api.get("throughput?minutes=120&width=10&queue=default").await.good().as_array().unwrap().len(), 12);

    let one = api.get(&format!("runs/{id}")).await.good();
    assert_eq!(
        (&one["name"], &one["state"], &one["input"]),
        (&json!("Order 7"), &json!("running"), &json!({ "n": 7 }))
    );
    assert_eq!(api.get(&format!("runs/{id}/steps")).await.good()[0]["state"], "ready");
    assert_eq!(api.get(&format!("runs/{id}/graph")).await.good()[0]["after"], json!([]));
    let attempts = api.get(&format!("runs/{dead}/attempts")).await.good();
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["step"]), (&json!("failed"), &json!("a")));
    assert_eq!(api.get(&format!("runs/{id}/timeline")).await.good()[0]["kind"], "created");
    let why = api.get(&format!("runs/{id}/why")).await.good();
    assert!(why[0]["why"].as_str().unwrap().contains("no worker takes handler nobody"), "{why}");
    assert_eq!(api.get(&format!("runs/{id}/progress")).await.good(), json!([]));

    assert_eq!(api.get("queues").await.good()[0]["ready"]["count"], 1);
    assert_eq!(api.get("workers").await.good()[0]["state"], "active");
    assert_eq!(api.get("leases").await.good(), json!([]));
    assert_eq!(api.get("schedules").await.good()[0]["next"].as_array().unwrap().len(), 5);
    let nightly = api.get("schedules/nightly?next=2").await.good();
    assert_eq!((nightly["next"].as_array().unwrap().len(), &nightly["past"]), (2, &json!([])));
    assert_eq!(api.get("locks").await.good()[0]["holder"], "me");
    assert_eq!(api.get("limits").await.good(), json!({ "keys": [], "next": null }));
    assert_eq!(api.get("limits/queue?name=x&key=y").await.good(), json!([]));
    let signals = api.get("signals?waiting=true").await.good();
    assert_eq!(signals["signals"].as_array().unwrap().len(), 2);
    assert_eq!(api.get("signals?key=order-7").await.good()["signals"][0]["topic"], "paid");
    assert_eq!(api.get("questions").await.good()[0]["run"], json!(asking));
    assert_eq!(api.get("dead-letters").await.good()[0]["run"], json!(dead));
    let groups = api.get("dead-letters/groups").await.good();
    assert_eq!((&groups[0]["count"], &groups[0]["runs"][0]), (&json!(1), &json!(dead)));
    assert_eq!(api.get("retention").await.good()["statistics"][0]["total"], 3);
    assert_eq!(api.get("retention/plan").await.good(), json!([]));
    let flows = api.get("flows").await.good();
    assert!(flows.as_array().unwrap().iter().any(|flow| flow["name"] == "order"), "{flows}");
    assert_eq!(
        api.get("flows/order").await.good()["live"],
        json!([{ "version": 1, "runs": { "count": 1, "more": false } }])
    );
    assert_eq!(api.get("flows/order/difference?from=1&to=1").await.good(), json!([]));
    assert_eq!(api.get("audit").await.good(), json!({ "acts": [], "next": null }));
    let checks = api.get("doctor").await.good();
    assert!(checks.as_array().unwrap().iter().any(|check| check["check"] == "rooms" && check["verdict"] == "ok"));
    let session = api.get("session").await.good();
    assert_eq!((&session["scope"], &session["tenants"]), (&json!("admin"), &json!(["default"])));
    for plain in ["/healthz", "/readyz", "/"] {
        assert_eq!(api.get(plain).await.status, 200, "{plain}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_found_by_anything() {
    let api = Api::new().await;
    let client = api.client().await;
    api.deploy_idle("order").await;
    client.deploy(&Flow::new("mail", 1).step(Step::new("a", "nobody").queue("mail"))).await.unwrap();
    let keyed = Start::new(&json!({}))
        .unwrap()
        .unique("key-7", Unique::Forever)
        .metadata(&json!({ "region": "north" }))
        .unwrap();
    let keyed = client.start_with("order", keyed).await.unwrap().id();
    let mail = client.start("mail", &json!({})).await.unwrap().id();
    let failed = api.failed_run().await;
    let found = async |query: &str| -> Vec<Uuid> {
        let page = api.get(&format!("runs?{query}")).await.good();
        page["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(found("").await, [failed, mail, keyed]);
    assert_eq!(found("flow=order").await, [keyed]);
    assert_eq!(found("queue=mail").await, [mail]);
    assert_eq!(found("key=key-7").await, [keyed]);
    assert_eq!(found("key=key-8").await, [] as [Uuid; 0]);
    assert_eq!(found("state=failed").await, [failed]);
    assert_eq!(found("state=live").await, [mail, keyed]);
    assert_eq!(found("error=EXIT%20code").await, [failed]);
    assert_eq!(found(&format!("id={}", &mail.to_string()[..35])).await, [mail]);
    assert_eq!(found("id=zz").await, [] as [Uuid; 0]);
    assert_eq!(found("metadata=%7B%22region%22%3A%22north%22%7D").await, [keyed]);
    assert_eq!(found("started_before=2020-01-01T00:00:00Z").await, [] as [Uuid; 0]);
    assert_eq!(found("started_after=2020-01-01T00:00:00Z&flow=mail").await, [mail]);
    assert_eq!(found("flow=&state=&limit=1").await, [failed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_run_once() {
    let api = Api::new().await;
    api.deploy_idle("many").await;
    let inputs = (0..2500).map(|n| json!({ "n": n }));
    let started = api.client().await.start_many("many", inputs).await.unwrap().ids();
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = api.get(&format!("runs?flow=many&limit=700{after}")).await.good();
        seen.extend(page["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (2500, 4));
    assert!(seen.is_sorted_by(|a, b| a > b), "the newest first");
    let started: HashSet<String> = started.iter().map(Uuid::to_string).collect();
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), started);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_question_is_told_what_is_wrong() {
    let api = Api::new().await;
    let nobody = Uuid::now_v7();
    for (path, status, problem, word) in [
        ("runs?stat=failed", 400, "malformed", "stat"),
        ("runs?limit=x", 400, "malformed", "limit"),
        ("runs?limit=0", 422, "invalid", "1 to 1000"),
        ("runs?limit=1001", 422, "invalid", "1 to 1000"),
        ("runs?state=done", 422, "invalid", "done"),
        ("runs?metadata={", 422, "invalid", "JSON"),
        ("runs?after=7", 400, "malformed", "after"),
        ("runs/7", 400, "malformed", "7"),
        ("schedules/none", 404, "not-found", "none"),
        ("schedules/none?next=5000", 422, "invalid", "1000"),
        ("flows/none", 404, "not-found", "none"),
        ("throughput?minutes=0", 422, "invalid", "minutes"),
        ("nothing", 404, "not-found", "nothing"),
        ("events", 422, "invalid", "overview"),
        ("events?topics=everything", 422, "invalid", "everything"),
        ("session?tenant=a%20b", 422, "invalid", "tenant"),
        (&format!("runs/{nobody}"), 404, "not-found", &nobody.to_string()),
        (&format!("runs/{nobody}/steps"), 404, "not-found", &nobody.to_string()),
        (&format!("runs/{nobody}/attempts"), 404, "not-found", &nobody.to_string()),
        (&format!("runs/{nobody}/timeline"), 404, "not-found", &nobody.to_string()),
        (&format!("runs/{nobody}/graph"), 404, "not-found", &nobody.to_string()),
        (&format!("runs/{nobody}/why"), 404, "not-found", &nobody.to_string()),
        (&format!("runs/{nobody}/steps/a/items"), 404, "not-found", &nobody.to_string()),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.problem(status), problem, "{path}");
        assert!(answer.body["detail"].as_str().unwrap().contains(word), "{path}: {}", answer.body);
    }
    let wrong_method = answer(api.request(Method::DELETE, "overview").header("X-Requested-By", "test")).await;
    assert_eq!(wrong_method.problem(405), "method");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_has_every_operation_and_answers_as_it_says() {
    let api = Api::new().await;
    let description = api.get("/api/openapi.json").await.good();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = description["paths"].as_object().unwrap();
    let operations: usize =
        paths.values().map(|path| path.as_object().unwrap().keys().filter(|k| *k != "parameters").count()).sum();
    assert!(operations >= 55, "{operations}");
    let mut ids = HashSet::new();
    for (path, item) in paths {
        assert_eq!(item["parameters"][0]["name"], "tenant");
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let summary = operation["summary"].as_str().or(operation["description"].as_str()).unwrap_or_default();
            assert!(!summary.is_empty(), "{method} {path} says what it does");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{method} {path} has an id of its own"
            );
            assert!(operation["responses"]["default"].is_object(), "{method} {path} names its problems");
        }
    }
    // Every reference leads somewhere.
    let mut references = Vec::new();
    collect(&description, &mut references);
    for reference in references {
        assert!(description.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| collect(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_served_with_a_strict_policy() {
    let api = Api::new().await;
    let page = api.request(Method::GET, "/").send().await.unwrap();
    let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!((header("x-content-type-options"), header("x-frame-options")), ("nosniff".into(), "DENY".into()));
    let tag = header("etag");
    let again = api.request(Method::GET, "/").header("If-None-Match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    // Pages of the console are made by the console itself; files that are not there are not.
    let inner = api.request(Method::GET, "/runs/7").header("Accept", "text/html").send().await.unwrap();
    assert_eq!(inner.status(), 200);
    assert_eq!(api.get("/app.nothing").await.problem(404), "not-found");
    assert_eq!(api.get("/../../etc/passwd").await.status, 404);
    assert_eq!(api.get("/%2e%2e/Cargo.toml").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_step_is_found_over_all_priorities_and_noted_by_the_minute() {
    let api = Api::new().await;
    let client = api.client().await;
    api.deploy_idle("order").await;
    let mut runs = Vec::new();
    for priority in [5, -3, 1000, 5] {
        let start = Start::new(&json!({})).unwrap().priority(priority);
        runs.push(client.start_with("order", start).await.unwrap().id());
    }
    let oldest = async || api.get("overview").await.good()["oldest_ready"]["run"].clone();
    assert_eq!(oldest().await, json!(runs[0]));
    client.run(runs[0]).stop().await.unwrap();
    assert_eq!(oldest().await, json!(runs[1]));
    let schema = client.database().schema();
    let connection = client.database().connection().await.unwrap();
    // Twice in a minute is noted once, with what was more.
    for _ in 0..2 {
        connection.batch_execute(&format!("select {schema}.note_throughput()")).await.unwrap();
    }
    let pieces = api.get("throughput?minutes=2").await.good();
    let ready: i64 = pieces.as_array().unwrap().iter().map(|piece| piece["ready"].as_i64().unwrap()).max().unwrap();
    assert_eq!(ready, 3, "{pieces}");
    let done = api.failed_run().await;
    assert_eq!(api.get(&format!("runs/{done}")).await.good()["state"], "failed");
    // Workers say what they did within half a second or so; the last of the pieces has it then.
    for _ in 0..200 {
        connection.batch_execute(&format!("select {schema}.note_throughput()")).await.unwrap();
        let pieces = api.get("throughput?minutes=3&queue=default").await.good();
        let failed: i64 = pieces.as_array().unwrap().iter().map(|piece| piece["failed"].as_i64().unwrap()).sum();
        if failed == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("what was done is noted");
}
