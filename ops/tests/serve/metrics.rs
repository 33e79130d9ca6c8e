//! Metrics: their names and labels, which dashboards and alerts stand on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    api::{Api, http},
    server::{Installation, step},
};

/// Of the installation, as `serve` and schedulers tell it.
const INSTALLATION: &[(&str, &str)] = &[
    ("longhaul_chore_failures_total", "chore"),
    ("longhaul_chore_items_total", "chore"),
    ("longhaul_chore_last_seconds", "chore"),
    ("longhaul_chore_late_seconds", "chore"),
    ("longhaul_chore_runs_total", "chore"),
    ("longhaul_dead_letters", "tenant"),
    ("longhaul_lock_attempts_total", "outcome,phase,tenant"),
    ("longhaul_lock_held_seconds_total", "phase,tenant"),
    ("longhaul_oldest_transaction_seconds", ""),
    ("longhaul_overdue", "kind"),
    ("longhaul_overdue_seconds", "kind"),
    ("longhaul_pool_connections", "state"),
    ("longhaul_questions", "tenant"),
    ("longhaul_queue_claimed_total", "queue,tenant"),
    ("longhaul_queue_completed_total", "queue,tenant"),
    ("longhaul_queue_failed_total", "queue,tenant"),
    ("longhaul_queue_oldest_ready_seconds", "queue,tenant"),
    ("longhaul_queue_paused", "queue,tenant"),
    ("longhaul_queue_ready", "queue,tenant"),
    ("longhaul_queue_running", "queue,tenant"),
    ("longhaul_queue_slots", "queue,tenant"),
    ("longhaul_queue_unserved", "queue,tenant"),
    ("longhaul_queue_workers", "queue,tenant"),
    ("longhaul_set_aside", ""),
    ("longhaul_steps", "state,tenant"),
    ("longhaul_workers", "state"),
];

/// Of `serve` itself, besides.
const SERVE: &[(&str, &str)] = &[
    ("longhaul_http_request_seconds_bucket", "le,route"),
    ("longhaul_http_request_seconds_count", "route"),
    ("longhaul_http_request_seconds_sum", "route"),
    ("longhaul_http_requests_total", "route,status"),
];

/// Of a worker.
const WORKER: &[(&str, &str)] = &[
    ("longhaul_pool_connections", "state"),
    ("longhaul_worker_attempt_seconds_bucket", "le,queue"),
    ("longhaul_worker_attempt_seconds_count", "queue"),
    ("longhaul_worker_attempt_seconds_sum", "queue"),
    ("longhaul_worker_claim_failures_total", ""),
    ("longhaul_worker_claim_items_bucket", "le"),
    ("longhaul_worker_claim_items_count", ""),
    ("longhaul_worker_claim_items_sum", ""),
    ("longhaul_worker_claim_seconds_bucket", "le"),
    ("longhaul_worker_claim_seconds_count", ""),
    ("longhaul_worker_claim_seconds_sum", ""),
    ("longhaul_worker_claimed_total", "queue"),
    ("longhaul_worker_completed_total", "queue"),
    ("longhaul_worker_failed_total", "queue"),
    ("longhaul_worker_leases", ""),
    ("longhaul_worker_outcomes_total", "outcome"),
    ("longhaul_worker_running", "queue"),
    ("longhaul_worker_slots", "queue"),
    ("longhaul_worker_stopping", ""),
    ("longhaul_worker_store_failures_total", ""),
    ("longhaul_worker_store_items_bucket", "le"),
    ("longhaul_worker_store_items_count", ""),
    ("longhaul_worker_store_items_sum", ""),
    ("longhaul_worker_store_seconds_bucket", "le"),
    ("longhaul_worker_store_seconds_count", ""),
    ("longhaul_worker_store_seconds_sum", ""),
];

/// The metrics of a text by name, each with its labels.
fn names(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let labels: BTreeSet<&str> = match rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')) {
                Some((labels, _)) => {
                    labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name).collect()
                }
                None => BTreeSet::new(),
            };
            (name.to_owned(), labels.into_iter().collect::<Vec<_>>().join(","))
        })
        .collect()
}

fn expected(lists: &[&[(&str, &str)]]) -> BTreeMap<String, String> {
    lists.concat().into_iter().map(|(name, labels)| (name.to_owned(), labels.to_owned())).collect()
}

/// The value of a line that begins so.
fn value(text: &str, line: &str) -> f64 {
    let line = text.lines().find_map(|known| known.strip_prefix(line)).unwrap_or_else(|| panic!("{line} in {text}"));
    line.trim().parse().unwrap()
}

async fn text(url: &str) -> String {
    let response = http().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installation_is_told_under_these_names() {
    let api = Api::new().await;
    api.deploy_idle("order").await;
    api.start_idle("order").await;
    api.failed_run().await;
    api.client().await.try_lock("run/door", "me", Duration::from_secs(60)).await.unwrap();
    api.get("overview").await.good();
    let text = text(&format!("{}/metrics", api.base)).await;
    assert_eq!(names(&text), expected(&[INSTALLATION, SERVE]));
    assert_eq!(value(&text, "longhaul_queue_ready{tenant=\"default\",queue=\"default\"}"), 1.0);
    assert_eq!(value(&text, "longhaul_queue_unserved{tenant=\"default\",queue=\"default\"}"), 1.0);
    assert_eq!(value(&text, "longhaul_dead_letters{tenant=\"default\"}"), 1.0);
    assert_eq!(
        value(&text, "longhaul_lock_attempts_total{tenant=\"default\",phase=\"door\",outcome=\"acquired\"}"),
        1.0
    );
    assert_eq!(value(&text, "longhaul_http_requests_total{route=\"/api/v1/overview\",status=\"200\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queues_are_put_together() {
    let api = Api::new().await;
    let client = api.client().await;
    for part in 0..3 {
        let mut flow = longhaul_schema::Flow::new(format!("f{part}"), 1);
        for n in 0..100 {
            flow = flow.step(longhaul_schema::Step::new(format!("s{n}"), "nobody").queue(format!("q{part}-{n}")));
        }
        client.deploy(&flow).await.unwrap();
        client.start(&format!("f{part}"), &json!({})).await.unwrap();
    }
    let text = text(&format!("{}/metrics", api.base)).await;
    assert_eq!(text.lines().filter(|line| line.starts_with("longhaul_queue_ready{")).count(), 200);
    let ready: f64 = text
        .lines()
        .filter_map(|line| line.strip_prefix("longhaul_queue_ready{")?.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert_eq!(ready, 300.0, "none is lost");
}

/// A process of the program that tells its metrics; killed when dropped.
async fn process(installation: &Installation, arguments: &[&str]) -> (tokio::process::Child, String) {
    let mut command = installation.command(&[arguments, &["--metrics", "127.0.0.1:0", "--log", "info"]].concat());
    command.stderr(Stdio::piped()).kill_on_drop(true).env("NO_COLOR", "1");
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("it says where");
        if let Some((_, rest)) = line.split_once("address=") {
            break rest.split_whitespace().next().unwrap().to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, format!("http://{address}/metrics"))
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_schedulers_are_told_under_these_names() {
    let installation = Installation::new().await;
    let (_worker, at) = process(&installation, &["worker", "--allow-command", "true"]).await;
    let (_scheduler, scheduler_at) = process(&installation, &["scheduler"]).await;
    let done = installation.run_step(step("command", 1, json!({ "program": "true" })), json!({})).await;
    assert_eq!(done.state.as_str(), "completed");
    let told = text(&at).await;
    assert_eq!(names(&told), expected(&[WORKER]));
    assert_eq!(value(&told, "longhaul_worker_outcomes_total{outcome=\"completed\"}"), 1.0);
    assert_eq!(value(&told, "longhaul_worker_attempt_seconds_count{queue=\"default\"}"), 1.0);
    assert_eq!(value(&told, "longhaul_worker_attempt_seconds_bucket{le=\"+Inf\",queue=\"default\"}"), 1.0);
    assert!(value(&told, "longhaul_worker_claim_seconds_count") >= 1.0);
    assert_eq!(value(&told, "longhaul_worker_store_items_sum"), 1.0);
    let told = names(&text(&scheduler_at).await);
    let mut all = expected(&[INSTALLATION]);
    // Nobody has used a lock.
    all.retain(|name, _| !name.contains("_lock_"));
    assert_eq!(told, all);
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("longhaul_") && *word != "longhaul_test").map(str::to_owned).collect()
}

#[test]
fn dashboards_and_alerts_ask_only_for_what_is_told() {
    let known = expected(&[INSTALLATION, SERVE, WORKER]);
    for path in ["alerts/longhaul.yml", "alerts/longhaul_test.yml", "dashboards/longhaul.json"] {
        let unknown: Vec<_> = named(&read(path)).into_iter().filter(|name| !known.contains_key(name)).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
    // And whatever is told is shown, but for what others say as well.
    let shown = named(&(read("dashboards/longhaul.json") + &read("alerts/longhaul.yml")));
    let told = known
        .keys()
        .filter(|name| !name.ends_with("_sum") && !name.ends_with("_count") && !name.starts_with("longhaul_worker_"));
    let hidden: Vec<_> = told.filter(|name| !shown.contains(*name)).collect();
    assert_eq!(hidden, ["longhaul_chore_last_seconds", "longhaul_chore_runs_total", "longhaul_queue_workers"]);
    serde_json::from_str::<serde_json::Value>(&read("dashboards/longhaul.json")).unwrap();
}

#[test]
fn each_alert_has_its_runbook() {
    let (alerts, runbooks) = (read("alerts/longhaul.yml"), read("../docs/runbooks.md"));
    let field = |name: &str| -> Vec<String> {
        alerts
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name))
            .map(|value| value.trim().to_owned())
            .collect()
    };
    let (names, links) = (field("alert:"), field("runbook:"));
    assert!(names.len() >= 15);
    for (name, link) in names.iter().zip(&links) {
        assert_eq!(*link, format!("docs/runbooks.md#{}", name.to_lowercase()));
        assert!(runbooks.contains(&format!("\n## {name}\n")), "{name} has no runbook");
    }
    assert_eq!(names.len(), links.len());
    let chapters = runbooks.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(chapters, names.len(), "no runbook without an alert");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_alerts() {
    // Where Prometheus is installed; its names and runbooks are checked above in any case.
    let folder = file("alerts");
    for arguments in [["check", "rules", "longhaul.yml"], ["test", "rules", "longhaul_test.yml"]] {
        match Command::new("promtool").args(arguments).current_dir(&folder).output() {
            Ok(output) => assert!(
                output.status.success(),
                "{arguments:?}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_those_who_may_see_all() {
    let api = Api::new().await;
    let made = api.installation.longhaul(&["token", "create", "shop", "--for-tenant", "shop", "--json"]).await;
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(api.get("/metrics").await.problem(401), "unauthorized");
    let shop = api.request(Method::GET, "/metrics").bearer_auth(made["token"].as_str().unwrap());
    assert_eq!(crate::api::answer(shop).await.problem(403), "forbidden");
}
