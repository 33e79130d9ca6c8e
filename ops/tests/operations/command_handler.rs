//! The handler `command`.

use std::time::Duration;

use longhaul_ops::handlers::Permissions;
use longhaul_schema::{
    Flow,
    calls::{RunInfo, RunState},
};
use serde_json::{Value, json};

use crate::server::{Installation, message, step};

async fn installation() -> Installation {
    let installation = Installation::new().await;
    let programs = ["printf", "cat", "sh", "env"].map(str::to_owned).to_vec();
    installation.work(&Permissions { programs, variables: vec!["COLOUR".into()], ..Permissions::default() });
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
        (settings("exit 4"), 2, "sh ended with exit code 4"),
        (json!({ "program": "printf", "folder": "/nowhere" }), 2, "cannot be started"),
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
    client.deploy(&Flow::new("long", 1).step(step)).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_chooses_arguments_and_never_the_program() {
    let installation = installation().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["printf", "run.sh"] {
        use std::os::unix::fs::PermissionsExt;
        let file = folder.path().join(name);
        std::fs::write(&file, "#!/bin/sh\necho PWNED\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let evil = folder.path().to_str().unwrap();
    for env in [json!({ "PATH": evil }), json!({ "LD_PRELOAD": format!("{evil}/p.so") }), json!({ "BASH_ENV": "x" })] {
        let settings = json!({ "program": "printf", "args": ["ok"], "env": env });
        let run = installation.run_step(step("command", 3, settings.clone()), json!({})).await;
        assert!(message(&run).contains("flows can never set"), "{settings}: {}", message(&run));
        assert_eq!(installation.client().await.attempts(run.id).await.unwrap().len(), 1);
    }
    // The folder does not change what a name means.
    let settings = json!({ "program": "printf", "args": ["ok"], "folder": evil });
    let run = installation.run_step(step("command", 1, settings), json!({})).await;
    assert_eq!(output(&installation, &run).await["stdout"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_told_when_the_worker_starts() {
    let installation = Installation::new().await;
    for arguments in [
        &["worker", "--allow-command", "nowhere-to-be-found"][..],
        &["worker", "--allow-command", "sh", "--allow-env", "PATH"],
        &["worker", "--allow-command", "sh", "--allow-env", "LD_PRELOAD"],
    ] {
        let ended = installation.longhaul(arguments).await;
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains(arguments[arguments.len() - 1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_see_nothing_of_the_workers_secrets() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    let print = step("command", 1, json!({ "program": "env", "stdout": "lines", "env": { "COLOUR": "red" } }));
    client.deploy(&Flow::new("env", 1).step(print)).await.unwrap();
    let mut worker = installation
        .command(&[
            "worker",
            "--allow-command",
            "env",
            "--allow-env",
            "COLOUR",
            "--pass-env",
            "REGION",
            "--log",
            "error",
        ])
        .env("AWS_SECRET_ACCESS_KEY", "topsecret")
        .env("PGPASSWORD", "topsecret")
        .env("REGION", "north")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let run = client.start("env", &json!({})).await.unwrap().wait(Duration::from_secs(60)).await.unwrap().unwrap();
    let lines = output(&installation, &run).await["stdout"].clone();
    let lines: Vec<&str> = lines.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines.contains(&"COLOUR=red") && lines.contains(&"REGION=north"), "{lines:?}");
    for line in &lines {
        assert!(!line.contains("topsecret") && !line.starts_with("DATABASE_URL"), "{line}");
    }
    // Nor by a file in which the system shows the worker's environment.
    let environment = std::fs::read(format!("/proc/{}/environ", worker.id().unwrap())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&environment).contains("topsecret"));
    let again = client.start("env", &json!({})).await.unwrap().wait(Duration::from_secs(60)).await.unwrap();
    assert_eq!(again.expect("it ends").state, RunState::Completed, "the worker itself goes on");
    worker.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_left_to_a_worker_that_may_run_its_program() {
    let installation = Installation::new().await;
    let mut other = installation.command(&["worker", "--allow-command", "true", "--log", "error"]);
    let mut other = other.kill_on_drop(true).spawn().unwrap();
    tokio::spawn(longhaul_scheduler::Scheduler::new(&installation.config).unwrap().run_until(std::future::pending()));
    let client = installation.client().await;
    let step = step("command", 1, json!({ "program": "printf", "args": ["ok"] }));
    client.deploy(&Flow::new("elsewhere", 1).step(step)).await.unwrap();
    let run = client.start("elsewhere", &json!({})).await.unwrap();
    let mut attempts = Vec::new();
    for _ in 0..600 {
        attempts = client.attempts(run.id()).await.unwrap();
        if attempts.len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(attempts.len() >= 2 && attempts.iter().all(|a| a.outcome == "snoozed"), "{attempts:?}");
    let shown = installation.longhaul(&["show", &run.id().to_string()]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\"printf\" is not on this worker's allow-list (true)"), "{shown}");
    // A worker that may: with the one attempt, which was not used up. (The other one would go on handing it back.)
    // SAFETY: kill has no memory preconditions; the process is our own child.
    unsafe { libc::kill(other.id().unwrap() as libc::pid_t, libc::SIGTERM) };
    other.wait().await.unwrap();
    installation.work(&Permissions { programs: vec!["printf".into()], ..Permissions::default() });
    let ended = run.wait(Duration::from_secs(60)).await.unwrap().expect("it ends");
    assert_eq!(output(&installation, &ended).await["stdout"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_ends_with_its_program_and_not_with_what_that_left_in_the_background() {
    let installation = installation().await;
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; echo hi; echo bye >&2", pid.display());
    let run =
        installation.run_step(step("command", 1, json!({ "program": "sh", "args": ["-c", script] })), json!({})).await;
    assert_eq!(output(&installation, &run).await, json!({ "exit_code": 0, "stdout": "hi", "stderr": "bye" }));
    let pid = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    // SAFETY: kill has no memory preconditions; the process was started by this test.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0, "it was let alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_programs_with_their_children() {
    let installation = Installation::new().await;
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! $$ > {}; wait", pids.display());
    let client = installation.client().await;
    let step = step("command", 1, json!({ "program": "sh", "args": ["-c", script] }));
    client.deploy(&Flow::new("long", 1).step(step)).await.unwrap();
    client.start("long", &json!({})).await.unwrap();
    let mut worker = installation
        .command(&["worker", "--allow-command", "sh", "--log", "error", "--grace", "1h"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while !std::fs::read_to_string(&pids).unwrap_or_default().ends_with('\n') {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Until it counts: a signal right after the first one is taken for the same.
    while worker.try_wait().unwrap().is_none() {
        if let Some(pid) = worker.id() {
            // SAFETY: kill has no memory preconditions; the process is our own child.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
        assert_gone(pid).await;
    }
}
