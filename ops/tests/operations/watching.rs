//! `explain`, `tail`, `drain`, `doctor`, completions and manual pages, as scripts use them.

use std::time::Duration;

use longhaul_ops::{embedded::temporary_folder, handlers::Permissions};
use longhaul_schema::{Flow, Retry, Step};
use serde_json::json;

use crate::server::{Installation, json_lines, stderr, stdout, step};

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_what_is_closed_and_all_gates_when_asked() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    client
        .deploy(&Flow::new("f", 1).step(Step::new("a", "nobody")).step(Step::new("b", "nobody").after("a")))
        .await
        .unwrap();
    let run = client.start("f", &1).await.unwrap().id().to_string();
    let said = stdout(&installation.longhaul(&["explain", &run]).await);
    assert!(
        said.contains("no worker takes handler nobody from queue default") && said.contains("predecessors"),
        "{said}"
    );
    assert!(!said.contains("is not paused"), "open gates hold nothing up: {said}");
    assert!(stdout(&installation.longhaul(&["explain", &run, "--all"]).await).contains("queue default is not paused"));
    let gates = json_lines(&installation.longhaul(&["explain", &run, "a", "--json"]).await);
    let worker = gates.iter().find(|gate| gate["gate"] == "worker").unwrap();
    assert_eq!((&worker["state"], &worker["figures"]["take_it"]), (&json!("closed"), &json!(0)));
    assert_eq!(installation.longhaul(&["explain", &run, "c"]).await.status.code(), Some(3));
    assert_eq!(installation.longhaul(&["explain"]).await.status.code(), Some(2));
    let queue = installation.longhaul(&["explain", "queue", "default"]).await;
    assert!(stdout(&queue).contains("1 of handler nobody is ready"), "{}{}", stdout(&queue), stderr(&queue));
    assert_eq!(installation.longhaul(&["explain", "queue", "nothing"]).await.status.code(), Some(3));
    assert!(installation.longhaul(&["schedule", "put", "nightly", "0 3 * * *", "f"]).await.status.success());
    let schedule = json_lines(&installation.longhaul(&["explain", "schedule", "nightly", "--json"]).await);
    assert!(schedule.iter().any(|gate| gate["gate"] == "time" && gate["estimate"].is_string()), "{schedule:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_a_run_to_its_end_and_all_runs_from_now_on() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    client
        .deploy(&Flow::new("f", 1).step(step("command", 1, json!({ "program": "printf", "args": ["done"] }))))
        .await
        .unwrap();
    client.deploy(&Flow::new("fails", 1).step(step("command", 1, json!({ "program": "false" })))).await.unwrap();
    let everything = installation.command(&["tail", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let run = client.start("f", &1).await.unwrap().id().to_string();
    let follower = tokio::spawn({
        let mut command = installation.command(&["tail", &run, "--json"]);
        async move { command.output().await.unwrap() }
    });
    installation.work(&Permissions { programs: vec!["printf".into(), "false".into()], ..Permissions::default() });
    let output = tokio::time::timeout(Duration::from_secs(60), follower).await.expect("it ends with the run").unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let kinds: Vec<String> = json_lines(&output).iter().map(|entry| entry["kind"].as_str().unwrap().into()).collect();
    assert_eq!(kinds, ["created", "attempt began", "step completed", "completed"]);
    let failed = client.start("fails", &1).await.unwrap().id().to_string();
    let output = installation.longhaul(&["tail", &failed]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("step failed  a #1"), "{}", stdout(&output));

    // All runs: what began after it did.
    let process = i32::try_from(everything.id().unwrap()).unwrap();
    let mut again = Vec::new();
    for _ in 0..3 {
        let run = client.start("f", &2).await.unwrap();
        run.wait(Duration::from_secs(60)).await.unwrap().expect("it ends");
        again.push(run.id().to_string());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // SAFETY: kill has no memory preconditions; the process is our own child.
    assert_eq!(unsafe { libc::kill(process, libc::SIGTERM) }, 0);
    let output = everything.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let lines = json_lines(&output);
    for run in again {
        let of_run: Vec<_> =
            lines.iter().filter(|entry| entry["run"] == run.as_str()).map(|entry| &entry["kind"]).collect();
        assert_eq!(of_run, ["created", "attempt began", "step completed", "completed"], "each once: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_until_the_worker_has_ended() {
    let installation = Installation::new().await;
    let mut worker = installation.command(&["worker", "--name", "w-7", "--log", "warn"]).spawn().unwrap();
    let mut workers = Vec::new();
    for _ in 0..300 {
        workers = json_lines(&installation.longhaul(&["workers", "--json"]).await);
        if !workers.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(workers[0]["name"], "w-7");
    let host = workers[0]["host"].as_str().unwrap();
    for (host, code) in [(host, 0), ("nowhere", 3)] {
        assert_eq!(installation.longhaul(&["workers", "--check", "--host", host]).await.status.code(), Some(code));
    }
    let misspelt = installation.longhaul(&["drain", "w-8"]).await;
    assert_eq!(misspelt.status.code(), Some(3));
    assert!(stderr(&misspelt).contains("did you mean w-7?"), "{}", stderr(&misspelt));
    let drained = installation.longhaul(&["drain", "w-7", "--timeout", "50s"]).await;
    assert!(drained.status.success(), "{}", stderr(&drained));
    assert!(stdout(&drained).ends_with("1 worker drained.\n"), "{}", stdout(&drained));
    let ended = tokio::time::timeout(Duration::from_secs(30), worker.wait()).await.expect("it ends").unwrap();
    assert!(ended.success());
    let id = workers[0]["id"].to_string();
    assert_eq!(installation.longhaul(&["drain", &id]).await.status.code(), Some(4), "it is gone");
    assert_eq!(installation.longhaul(&["drain", "--host", "nowhere"]).await.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_is_a_probe_with_figures() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    let failing = step("command", 1, json!({ "program": "false" })).retry(Retry::fixed(1, Duration::ZERO));
    client.deploy(&Flow::new("f", 1).step(failing)).await.unwrap();
    installation.work(&Permissions { programs: vec!["false".into()], ..Permissions::default() });
    client.start("f", &1).await.unwrap().wait(Duration::from_secs(60)).await.unwrap().expect("it ends");
    let doctor = installation.longhaul(&["doctor", "--strict", "--json"]).await;
    assert_eq!(doctor.status.code(), Some(1));
    assert!(stderr(&doctor).contains(" warning"), "{}", stderr(&doctor));
    let checks = json_lines(&doctor);
    let check =
        |name: &str| checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {checks:?}"));
    assert_eq!(check("attention")["figures"]["dead_letters"], 1);
    assert!(
        check("attention")["finding"].as_str().unwrap().contains("1 dead letter: longhaul dead list"),
        "{checks:?}"
    );
    assert!(check("sizes")["figures"]["bytes"].as_i64().unwrap() > 100_000);
    assert!(check("sizes")["figures"]["tables"]["run"].as_i64().is_some());
    assert_eq!(check("overdue")["figures"]["count"], 0);
    assert!(check("snapshots")["figures"]["pins"].is_array());
    assert!(check("workers")["figures"]["workers"].as_i64().unwrap() >= 1);
    assert!(installation.longhaul(&["doctor"]).await.status.success(), "warnings alone are no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_and_what_is_misspelt_is_told() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    client.deploy(&Flow::new("shop.order", 1).step(Step::new("a", "nobody"))).await.unwrap();
    client
        .deploy(&Flow::new("quick", 1).step(step("command", 1, json!({ "program": "printf", "args": ["done"] }))))
        .await
        .unwrap();
    for arguments in [&["start", "shop.odrer"][..], &["schedule", "put", "s", "@daily", "shop.odrer"]] {
        let misspelt = installation.longhaul(arguments).await;
        assert_eq!(misspelt.status.code(), Some(3));
        assert!(stderr(&misspelt).contains("did you mean shop.order?"), "{}", stderr(&misspelt));
    }
    installation.work(&Permissions { programs: vec!["printf".into()], ..Permissions::default() });
    let id = uuid::Uuid::now_v7().to_string();
    let start = ["start", "quick", "--id", id.as_str(), "--wait", "--timeout", "50s"];
    assert!(stderr(&installation.longhaul(&start).await).contains(" started"));
    let second = installation.longhaul(&start).await;
    assert!(second.status.success() && stderr(&second).contains(" was started before"), "{}", stderr(&second));
    let third = json_lines(&installation.longhaul(&["start", "quick", "--id", &id, "--json"]).await);
    assert_eq!(third, [json!({ "id": id, "existing": true })]);

    let report = |payload: &'static str| {
        let installation = &installation;
        async move { installation.longhaul(&["complete", "provider.done", "parcel-9", payload]).await }
    };
    assert!(report("{\"n\": 1}").await.status.success());
    assert!(report("{\"n\": 1}").await.status.success(), "the same report again");
    let other = report("{\"n\": 2}").await;
    assert_eq!(other.status.code(), Some(4));
    assert!(stderr(&other).contains("has reported otherwise before"), "{}", stderr(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_know_the_commands() {
    let installation = Installation::planned();
    for shell in ["bash", "zsh", "fish"] {
        let script = installation.longhaul(&["completions", shell]).await;
        assert!(script.status.success() && stdout(&script).contains("explain"), "{shell}: {}", stderr(&script));
    }
    // Bash itself finds no fault with it.
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("longhaul");
    std::fs::write(&file, installation.longhaul(&["completions", "bash"]).await.stdout).unwrap();
    assert!(std::process::Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
    let pages = folder.path().join("man1");
    assert!(installation.longhaul(&["man", "--out", pages.to_str().unwrap()]).await.status.success());
    for (page, text) in [
        ("longhaul.1", "durable job queue"),
        ("longhaul-stop.1", "dry\\-run"),
        ("longhaul-queue-limit.1", "max\\-running"),
    ] {
        let written = std::fs::read_to_string(pages.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(written.starts_with(".ie") || written.contains(".TH"), "{page}");
        assert!(written.contains(text), "{page}: {text}");
    }
}
