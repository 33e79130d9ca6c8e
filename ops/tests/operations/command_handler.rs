//! The handler `command`.

use std::time::Duration;

use longhaul_ops::handlers::Permissions;
use longhaul_schema::calls::{RunInfo, RunState};
use serde_json::{Value, json};

use crate::server::{Installation, message, step};

async fn installation() -> Installation {
    let installation = Installation::new().await;
    let programs = ["printf", "cat", "sh", "env", "nowhere-to-be-found"].map(str::to_owned).to_vec();
    installation.work(&Permissions { programs, private_addresses: false });
    installation
}

async fn output(installation: &Installation, run: &RunInfo) -> Value {
    assert_eq!(run.state, RunState::Completed, "{:?}", run.error);
    let calls = installation.client().await;
    let payload = calls.database().calls().await.unwrap().run_output(run.id).await.unwrap().unwrap();
    payload.read().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_reach_the_program_as_they_are() {
    let installation = installation().await;
    let odd = "a b\n\"c\" 'd' $(reboot) ; * \\ -x ü 日本";
    let settings =
        json!({ "program": "printf", "args": ["%s|%s", "{{ input.odd }}", "-{{ run.key }}"], "stdout": "text" });
    let run = installation.run_step(step("command", 1, settings), json!({ "odd": odd })).await;
    let key = format!("{}/0", run.id);
    assert_eq!(output(&installation, &run).await, json!({ "exit_code": 0, "stdout": format!("{odd}|-{key}") }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_comes_on_standard_input_and_output_is_read_as_asked() {
    let installation = installation().await;
    let input = json!({ "n": [1, 2, { "x": "y" }] });
    let run =
        installation.run_step(step("command", 1, json!({ "program": "cat", "stdout": "json" })), input.clone()).await;
    assert_eq!(output(&installation, &run).await["stdout"], input);

    let settings = json!({ "program": "printf", "args": ["one\\ntwo\\n"], "stdout": "lines" });
    let run = installation.run_step(step("command", 1, settings), json!({})).await;
    assert_eq!(output(&installation, &run).await["stdout"], json!(["one", "two"]));

    let settings = json!({ "program": "sh", "args": ["-c", "printf %s \"$COLOUR $LONGHAUL_RUN_ID\"; printf warned >&2"], "env": { "COLOUR": "{{ input.c }}" }, "folder": "/" });
    let run = installation.run_step(step("command", 1, settings), json!({ "c": "red" })).await;
    assert_eq!(
        output(&installation, &run).await,
        json!({ "exit_code": 0, "stdout": format!("red {}", run.id), "stderr": "warned" })
    );

    // A program that does not read its input is no error, however long that is.
    let run = installation
        .run_step(step("command", 1, json!({ "program": "printf", "args": ["ok"] })), json!("x".repeat(900_000)))
        .await;
    assert_eq!(output(&installation, &run).await["stdout"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_the_program_said() {
    let installation = installation().await;
    let settings = |script: &str| json!({ "program": "sh", "args": ["-c", script], "fail_on": [7] });
    for (settings, attempts, expected) in [
        (settings("echo broken >&2; exit 3"), 2, "sh ended with exit code 3: broken"),
        (settings("exit 7"), 1, "exit code 7"),
        (settings("kill -9 $$"), 2, "signal: 9"),
        (json!({ "program": "rm", "args": ["-rf", "/"] }), 1, "not on this worker's allow-list"),
        (json!({ "program": "nowhere-to-be-found" }), 2, "cannot be started"),
        (json!({ "program": "printf", "args": ["x"], "stdout": "json" }), 1, "did not write JSON"),
        (json!({ "program": "printf", "args": ["\\377"] }), 1, "not UTF-8"),
        (json!({ "program": "printf", "args": ["a\\000b"] }), 1, "\\u0000"),
        (json!({ "program": "printf", "args": ["{{ input.missing }}"] }), 1, "cannot be filled in"),
        (json!({ "program": "printf", "args": ["{{ input."] }), 1, "cannot be filled in"),
        (json!({ "program": "printf", "args": ["{{ steps.nope }}"] }), 1, "has no step nope"),
        (json!({ "programme": "printf" }), 1, "settings of step a do not fit"),
        (json!({ "program": "sh", "args": ["-c", "yes | head -c 17000000"] }), 1, "wrote more than"),
    ] {
        let run = installation.run_step(step("command", 2, settings.clone()), json!({})).await;
        assert_eq!(run.state, RunState::Failed, "{settings}");
        assert!(message(&run).contains(expected), "{settings}: {}", message(&run));
        assert_eq!(installation.client().await.attempts(run.id).await.unwrap().len(), attempts, "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_killed_with_its_children_when_its_time_is_over() {
    let installation = installation().await;
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! $$ >> {}; wait", pids.display());
    let step =
        step("command", 1, json!({ "program": "sh", "args": ["-c", script] })).timeout(Duration::from_millis(500));
    let run = installation.run_step(step, json!({})).await;
    assert!(message(&run).contains("took longer than"), "{}", message(&run));

    let text = std::fs::read_to_string(&pids).unwrap();
    for pid in text.split_whitespace() {
        assert_gone(pid).await;
    }
}

/// Waits until a process is gone, or a zombie that nobody has waited for yet.
async fn assert_gone(pid: &str) {
    let mut state = String::new();
    for _ in 0..1000 {
        state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} still lives: {state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_dies_with_a_worker_that_is_killed() {
    let installation = Installation::new().await;
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", pid.display());
    let client = installation.client().await;
    let step = step("command", 1, json!({ "program": "sh", "args": ["-c", script] }));
    client.deploy(&longhaul_schema::Flow::new("long", 1).step(step)).await.unwrap();
    client.start("long", &json!({})).await.unwrap();
    let mut worker = installation
        .command(&["worker", "--allow-command", "sh", "--log", "error"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while std::fs::read_to_string(&pid).unwrap_or_default().trim().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.kill().await.unwrap();
    assert_gone(std::fs::read_to_string(&pid).unwrap().trim()).await;
}
