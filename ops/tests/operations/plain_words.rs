//! What the program says to somebody who has made an ordinary mistake, or who asks what a run waits for.

use std::process::{Command, Output};

use longhaul_ops::{embedded::temporary_folder, handlers::Permissions};
use serde_json::Value;

use crate::server::{Installation, PROGRAM};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

impl Installation {
    async fn deploy_text(&self, text: &str) {
        let folder = temporary_folder().unwrap();
        let file = folder.path().join("f.yaml");
        std::fs::write(&file, text).unwrap();
        let output = self.longhaul(&["flow", "deploy", file.to_str().unwrap()]).await;
        assert!(output.status.success(), "{}", stderr(&output));
    }

    async fn start(&self, flow: &str, input: &str) -> String {
        let output = self.longhaul(&["start", flow, input]).await;
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// Asks `why` until it says this.
    async fn why(&self, run: &str, expected: &str) -> String {
        let mut said = String::new();
        for _ in 0..200 {
            said = stdout(&self.longhaul(&["why", run]).await);
            if said.contains(expected) {
                return said;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("why says nothing of {expected:?}: {said}");
    }

    fn work_with(&self, programs: &[&str]) {
        let programs = programs.iter().map(|&program| program.to_owned()).collect();
        self.work(&Permissions { programs, ..Permissions::default() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_times_and_ids_are_told_how_they_are_written() {
    let installation = Installation::planned();
    for arguments in [
        &["start", "f", "--at", "tomorrow"][..],
        &["start", "f", "--at", "2026-12-24"],
        &["schedule", "put", "s", "@daily", "f", "--from", "2026-12-24 18:00"],
    ] {
        let output = installation.longhaul(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("as in 2026-12-24T18:00:00+01:00"), "{arguments:?}: {}", stderr(&output));
    }
    for arguments in [
        &["why", "123"][..],
        &["show", "RUN"],
        &["stop", "order"],
        &["wait", "1"],
        &["fork", "1", "a"],
        &["decide", "1", "a", "b"],
        &["list", "--parent", "1"],
        &["start", "f", "--id", "1"],
    ] {
        let output = installation.longhaul(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("an id is a UUID"), "{arguments:?}: {}", stderr(&output));
    }
    let output = installation.longhaul(&["start", "f", "--key", "k", "--key-for", "forever"]).await;
    assert!(stderr(&output).contains("or ever"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_named() {
    let list = |url: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        for variable in ["DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGUSER", "PGDATABASE", "PGSERVICE"] {
            command.env_remove(variable);
        }
        // No server listens there.
        command.env("PGPORT", "1").arg("list");
        if let Some(url) = url {
            command.env("DATABASE_URL", url);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
        stderr(&output)
    };
    let said = list(Some("postgres://anna:secret@127.0.0.1:1/orders"));
    assert!(said.contains("tried anna@127.0.0.1:1/orders") && !said.contains("secret"), "{said}");
    assert!(!said.contains("DATABASE_URL"), "{said}");
    assert!(list(None).contains("neither --database-url nor DATABASE_URL says where it is"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_run_has_is_told_and_the_output_is_shown() {
    let installation = Installation::new().await;
    installation.deploy_text("name: f\nversion: 1\nsteps:\n  - name: a\n    handler: command\n    with: { program: printf, args: [done] }\n").await;
    installation.work_with(&["printf"]);
    let start = &["start", "f", "--key", "k", "--key-for", "ever", "--wait", "--timeout", "30s"];
    let first = installation.longhaul(start).await;
    assert!(first.status.success() && stderr(&first).contains(" started"), "{}", stderr(&first));
    let second = installation.longhaul(start).await;
    assert!(second.status.success() && stderr(&second).contains(" has this key already"), "{}", stderr(&second));
    assert_eq!(stdout(&first), stdout(&second));

    let list = installation.longhaul(&["list", "--json"]).await;
    let run: Value = serde_json::from_str(stdout(&list).trim()).unwrap();
    let id = run["id"].as_str().unwrap();
    let shown = stdout(&installation.longhaul(&["show", id]).await);
    assert!(shown.contains("\nOutput   {\"stdout\": \"done\""), "{shown}");
    let shown: Value = serde_json::from_str(&stdout(&installation.longhaul(&["show", id, "--json"]).await)).unwrap();
    assert_eq!(shown["output"]["stdout"], "done");
    installation.why(id, "The run waits for nothing: it is completed since ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_can_be_answered_by_what_why_says() {
    let installation = Installation::new().await;
    let approval = "approval: { question: Pay it?, choices: [all, half], by: [anna, bert] }";
    installation
        .deploy_text(&format!("name: f\nversion: 1\nsteps:\n  - name: pay\n    handler: h\n    {approval}\n"))
        .await;
    let run = installation.start("f", "{}").await;
    let said = installation.why(&run, "Step pay asks: Pay it?").await;
    assert!(said.contains(&format!("longhaul decide {run} pay CHOICE --by NAME")), "{said}");
    assert!(said.contains("CHOICE is one of: all, half; NAME is one of: anna, bert"), "{said}");
    assert!(!said.contains('|'), "copied into a shell, it decides nothing: {said}");
    let mut command = installation.command(&["decide", &run, "pay", "all"]);
    let guessed = command.env("USER", "carl").output().await.unwrap();
    assert_eq!(guessed.status.code(), Some(4));
    assert!(stderr(&guessed).contains("carl may not decide this"), "{}", stderr(&guessed));
    assert!(stderr(&guessed).contains("--by NAME"), "{}", stderr(&guessed));
    assert!(installation.longhaul(&["decide", &run, "pay", "all", "--by", "anna"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn why_says_which_child_how_many_items_and_each_error_once() {
    let installation = Installation::new().await;
    installation.deploy_text("name: inner\nversion: 1\nsteps:\n  - { name: w, wait_signal: { topic: t } }\n").await;
    installation
        .deploy_text(
            "name: f\nversion: 1\nsteps:
  - { name: kid, flow: inner }
  - { name: each, handler: nobody, for_each: $.input, window: 2 }
  - name: fails
    handler: command
    retry: { attempts: 3, backoff: 1h, jitter: 0 }
    with: { program: sh, args: [\"-c\", \"echo reason >&2; exit 1\"] }
  - name: refused
    handler: command
    with: { program: gzip }
",
        )
        .await;
    installation.work_with(&["sh"]);
    let run = installation.start("f", "[1, 2, 3]").await;
    installation.why(&run, "Step each waits for: items (0 of 3 have ended).").await;
    let said = installation.why(&run, "Step kid waits for: child (run ").await;
    assert!(said.contains(" of flow inner, running)."), "{said}");
    let said = installation.why(&run, "after 1 of 3 attempts failed").await;
    let line = said.lines().find(|line| line.starts_with("Step fails")).unwrap();
    assert_eq!(line.matches("reason").count(), 1, "{line}");
    let said = installation.why(&run, "(put off)").await;
    let line = said.lines().find(|line| line.starts_with("Step refused")).unwrap();
    assert!(line.contains("\"gzip\" is not on this worker's allow-list"), "{line}");
    assert!(!line.contains("the last one with"), "no attempt has failed: {line}");

    let pending = stdout(&installation.longhaul(&["start", "inner", "--create-only"]).await);
    installation.why(pending.trim(), "Step w sleeps until somebody starts its run (longhaul begin).").await;
    let later = stdout(&installation.longhaul(&["start", "inner", "--delay", "1h"]).await);
    installation.why(later.trim(), "(delayed start).").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_says_how_many_steps_it_has_left_out() {
    let installation = Installation::new().await;
    let steps: String = (1..=13).map(|n| format!("  - {{ name: s{n}, handler: nobody }}\n")).collect();
    installation.deploy_text(&format!("name: f\nversion: 1\nsteps:\n{steps}")).await;
    let run = installation.start("f", "{}").await;
    let output = installation.longhaul(&["why", &run]).await;
    assert_eq!(stdout(&output).lines().count(), 10);
    assert!(stderr(&output).contains("3 more steps have not ended"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_not_said_to_be_the_flows_alone() {
    let installation = Installation::new().await;
    installation.deploy_text("name: f\nversion: 1\nsteps:\n  - { name: w, wait_signal: { topic: t } }\n").await;
    installation.work_with(&[]);
    let run = installation.longhaul(&["start", "f", "--deadline", "1s", "--wait", "--timeout", "30s"]).await;
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("the deadline that it was started with"), "{}", stderr(&run));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_says_why() {
    let installation = Installation::new().await;
    installation
        .deploy_text("name: f\nversion: 1\nsteps:\n  - { name: a, handler: http, retry: { attempts: 1 }, with: { url: \"https://nowhere.invalid/\" } }\n")
        .await;
    installation.work_with(&[]);
    let run = installation.longhaul(&["start", "f", "--wait", "--timeout", "60s"]).await;
    assert_eq!(run.status.code(), Some(1));
    let dead = stdout(&installation.longhaul(&["dead", "list"]).await);
    for said in [stderr(&run), dead] {
        assert!(said.contains("(https://nowhere.invalid/): "), "the cause stands behind it: {said}");
        assert!(!said.contains("{\"causes\""), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_was_skipped_or_has_failed_is_null_in_templates() {
    let installation = Installation::new().await;
    installation
        .deploy_text(
            "name: f\nversion: 1\nsteps:
  - { name: skipped, handler: command, when: $.input.never == true, with: { program: printf } }
  - { name: failed, handler: command, on_failure: continue, retry: { attempts: 1 }, with: { program: \"false\" } }
  - name: told
    handler: command
    after: [skipped, failed]
    with:
      program: printf
      args: [\"%s\", \"{{ steps.skipped.stdout | default('not done') }}, {{ steps.failed }}, {% if steps.failed %}yes{% else %}no{% endif %}\"]
",
        )
        .await;
    installation.work_with(&["printf", "false"]);
    let run = installation.longhaul(&["start", "f", "--wait", "--timeout", "30s"]).await;
    assert!(run.status.success(), "{}", stderr(&run));
    let output: Value = serde_json::from_str(stdout(&run).trim()).unwrap();
    assert_eq!(output["stdout"], "not done, None, no");
}
