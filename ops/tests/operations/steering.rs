//! Operations, signals, questions and dead letters from the command line.

use longhaul_ops::{embedded::temporary_folder, handlers::Permissions};
use serde_json::{Value, json};

use crate::server::Installation;

const FLOW: &str = "\
name: order
version: 1
steps:
  - name: check
    handler: command
    with: { program: \"true\" }
  - name: pay
    after: [check]
    handler: command
    approval: { question: \"Pay it?\", by: [anna] }
    with: { program: \"true\" }
  - name: parcel
    after: [pay]
    wait_signal: { topic: parcel.sent, key: $.input.id }
output: { tracking: $.steps.parcel.tracking }
";

struct Program<'a>(&'a Installation);

impl Program<'_> {
    /// Runs the program with --json; its exit code and what it printed.
    async fn run(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = self.0.longhaul(&arguments).await;
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    async fn ok(&self, arguments: &[&str]) -> Vec<Value> {
        let (code, lines) = self.run(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {lines:?}");
        lines
    }

    /// Asks again until there is something.
    async fn until_some(&self, arguments: &[&str]) -> Value {
        for _ in 0..200 {
            if let Some(line) = self.ok(arguments).await.into_iter().next() {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{arguments:?} gave nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_steered_through_its_life() {
    let installation = Installation::new().await;
    installation.work(&Permissions { programs: vec!["true".into()], ..Permissions::default() });
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("order.yaml");
    std::fs::write(&file, FLOW).unwrap();
    let program = Program(&installation);
    program.ok(&["flow", "deploy", file.to_str().unwrap()]).await;

    let started =
        program.ok(&["start", "order", r#"{"id": 7}"#, "--create-only", "--metadata", r#"{"customer": 5}"#]).await;
    let id = started[0]["id"].as_str().unwrap().to_owned();
    let id = id.as_str();
    assert_eq!(program.ok(&["list", "--state", "pending", "--metadata", r#"{"customer": 5}"#]).await[0]["id"], id);
    assert_eq!(program.ok(&["begin", id]).await[0]["state"], "running");
    assert_eq!(program.run(&["begin", id]).await.0, 4);
    let question = program.until_some(&["questions", id]).await;
    assert_eq!((&question["question"], &question["may_answer"]), (&json!("Pay it?"), &json!(["anna"])));
    assert_eq!(program.run(&["decide", id, "pay", "approve", "--by", "eve"]).await.0, 4);
    assert_eq!(
        program.ok(&["decide", id, "pay", "approve", "--by", "anna", "--data", r#"{"n": 1}"#]).await,
        [json!({ "decided": true })]
    );
    assert_eq!(program.ok(&["decide", id, "pay", "approve", "--by", "anna"]).await, [json!({ "decided": false })]);
    program.ok(&["rename", id, "Ms Miller"]).await;
    program.ok(&["annotate", id, r#"{"ticket": 9}"#]).await;
    program.ok(&["pause", id, "--by", "bert"]).await;
    assert_eq!(program.run(&["stop", id, "--expect-state", "running"]).await.0, 4);
    program.ok(&["resume", id]).await;
    program.ok(&["signal", "key:7", "parcel.sent", r#"{"tracking": "X1"}"#]).await;
    let ended = program.ok(&["wait", id, "--timeout", "30s"]).await;
    assert_eq!(ended[0]["output"], json!({ "tracking": "X1" }));
    assert_eq!(ended[0]["metadata"], json!({ "customer": 5, "ticket": 9 }));
    let timeline = program.ok(&["show", id, "--timeline"]).await;
    let by = |kind: &str| {
        timeline.iter().find(|e| e["kind"] == kind).unwrap_or_else(|| panic!("{kind} in {timeline:?}"))["actor"].clone()
    };
    assert_eq!((by("decided"), by("paused")), (json!("anna"), json!("bert")));
    program.ok(&["dismiss", id]).await;
    assert!(program.ok(&["list"]).await.is_empty());
    program.ok(&["undismiss", id]).await;
    let fork = program.ok(&["fork", id, "parcel"]).await[0]["id"].as_str().unwrap().to_owned();
    program.ok(&["complete", "parcel.sent", "7", r#"{"tracking": "X2"}"#]).await;
    assert_eq!(program.ok(&["wait", &fork]).await[0]["output"], json!({ "tracking": "X2" }));
    assert_eq!(program.ok(&["broadcast", "nobody-waits"]).await, [json!({ "runs": 0 })]);

    // Text for people.
    let shown = String::from_utf8(installation.longhaul(&["show", id]).await.stdout).unwrap();
    assert!(shown.contains("Ms Miller") && shown.contains("parcel"), "{shown}");
    assert!(
        String::from_utf8(installation.longhaul(&["show", id, "--timeline"]).await.stdout).unwrap().contains("decided")
    );

    let second = FLOW.replace("version: 1", "version: 2").replace("Pay it?", "Really?");
    std::fs::write(&file, second).unwrap();
    program.ok(&["flow", "deploy", file.to_str().unwrap()]).await;
    let difference = program.ok(&["flow", "diff", "order", "1", "2"]).await;
    assert_eq!(difference[0]["after"]["approval"]["question"], "Really?");
    program.ok(&["start", "order", r#"{"id": 8}"#]).await;
    assert_eq!(program.ok(&["flow", "live", "order"]).await, [json!({ "version": 2, "live_runs": 1 })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_retried_and_discarded() {
    let installation = Installation::new().await;
    installation.work(&Permissions { programs: vec!["false".into()], ..Permissions::default() });
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("fails.yaml");
    std::fs::write(&file, "name: fails\nversion: 1\nsteps:\n  - name: a\n    handler: command\n    with: { program: \"false\" }\n    retry: { attempts: 1 }\n").unwrap();
    let program = Program(&installation);
    program.ok(&["flow", "deploy", file.to_str().unwrap()]).await;
    program.ok(&["start", "fails"]).await;
    let dead = program.until_some(&["dead", "list", "--flow", "fails"]).await;
    assert_eq!((&dead["step"], &dead["run_state"]), (&json!("a"), &json!("failed")));
    assert_eq!(program.ok(&["dead", "retry", "--handler", "command", "--by", "anna"]).await, [json!({ "retried": 1 })]);
    program.until_some(&["dead", "list"]).await;
    assert_eq!(program.ok(&["dead", "discard", "--message", "%code 1%"]).await, [json!({ "discarded": 1 })]);
    assert!(program.ok(&["dead", "list"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_schedules_locks_and_retention_are_kept_from_the_command_line() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("f.yaml");
    std::fs::write(&file, "name: f\nversion: 1\nsteps:\n  - name: a\n    handler: nobody\n").unwrap();
    let program = Program(&installation);
    program.ok(&["flow", "deploy", file.to_str().unwrap()]).await;

    program.ok(&["queue", "limit", "default", "--max-running", "3", "--rate", "10/1m", "--breaker", "5/30s"]).await;
    program.ok(&["queue", "pause", "default", "--by", "anna"]).await;
    let queue = program.ok(&["queue", "list"]).await.remove(0);
    assert_eq!(
        (&queue["max_running"], &queue["rate"], &queue["breaker"], &queue["paused_by"]),
        (&json!(3), &json!("10/1m"), &json!("5/30s"), &json!("anna"))
    );
    assert_eq!(program.run(&["queue", "limit", "default", "--rate", "10"]).await.0, 2);
    assert_eq!(program.run(&["queue", "pause", "unknown"]).await.0, 3);
    program.ok(&["queue", "resume", "default"]).await;

    program
        .ok(&[
            "schedule",
            "put",
            "nightly",
            "0 3 * * *",
            "f",
            "--zone",
            "Europe/Berlin",
            "--overlap",
            "skip",
            "--input",
            r#"{"n": 1}"#,
        ])
        .await;
    assert_eq!(program.run(&["schedule", "put", "x", "0 99 * * *", "f"]).await.0, 2);
    assert_eq!(program.ok(&["schedule", "next", "nightly"]).await.len(), 10);
    let schedule = program.ok(&["schedule", "list"]).await.remove(0);
    assert_eq!(
        (&schedule["zone"], &schedule["overlap"], &schedule["input"]),
        (&json!("Europe/Berlin"), &json!("skip"), &json!({ "n": 1 }))
    );
    let run = program.ok(&["schedule", "run", "nightly"]).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(program.run(&["schedule", "run", "nightly"]).await.0, 4, "the run before still lives");
    program.ok(&["schedule", "pause", "nightly"]).await;
    program.ok(&["schedule", "resume", "nightly"]).await;
    program.ok(&["schedule", "delete", "nightly"]).await;

    let client = installation.client().await;
    std::mem::forget(client.try_lock("a/b", "me", std::time::Duration::from_secs(60)).await.unwrap());
    assert_eq!(program.ok(&["lock", "list"]).await[0]["holder"], "me");
    assert_eq!(program.ok(&["lock", "release", "a/b"]).await, [json!({ "released": true })]);
    assert_eq!(program.run(&["lock", "release", "nothing"]).await.0, 3);

    program.ok(&["stop", &run]).await;
    program.ok(&["retention", "put", "all", "--age", "1ms"]).await;
    assert_eq!(program.ok(&["retention", "list"]).await[0]["name"], "all");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(program.ok(&["retention", "plan"]).await[0]["runs"], 1);
    assert_eq!(program.ok(&["retention", "stats"]).await[0]["total"], 1);
    let archive = folder.path().join("archive");
    assert_eq!(program.ok(&["retention", "run", "--archive", archive.to_str().unwrap()]).await[0]["deleted"], 1);
    let file = std::fs::read_dir(&archive).unwrap().next().unwrap().unwrap().path();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()), &mut text)
        .unwrap();
    let archived: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((&archived["id"], &archived["steps"][0]["state"]), (&json!(run), &json!("cancelled")));
    assert!(program.ok(&["list"]).await.is_empty());
    program.ok(&["retention", "delete", "all"]).await;
}
