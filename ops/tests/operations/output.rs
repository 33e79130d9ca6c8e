//! What the program prints, and what it says when it cannot.

use std::{fs::File, process::Stdio};

use longhaul_scheduler::Start;
use longhaul_schema::{Approval, Flow, Step};
use serde_json::{Value, json};

use crate::server::Installation;

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

async fn with_full_output(installation: &Installation, arguments: &[&str]) -> std::process::Output {
    let child = installation.command(arguments).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    child.wait_with_output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_cannot_be_written_is_an_error() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let installation = Installation::new().await;
    let client = installation.client().await;
    client.deploy(&Flow::new("f", 1).step(Step::new("a", "nobody"))).await.unwrap();
    for arguments in [&["list"][..], &["doctor", "--json"], &["flow", "schema"], &["--help"]] {
        let output = with_full_output(&installation, arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("standard output cannot be written"), "{arguments:?}: {said}");
    }
    // The id of a run that was started is not lost with it.
    let output = with_full_output(&installation, &["start", "f"]).await;
    let id = client.list(&Default::default()).await.unwrap()[0].id;
    assert!(String::from_utf8(output.stderr).unwrap().contains(&id.to_string()));
    assert_eq!(output.status.code(), Some(1));

    // An error stays what it is, also when it cannot be said.
    let nobody = "019b0000-0000-7000-8000-000000000000";
    for (stdout, stderr) in [(Stdio::null(), full()), (full(), full())] {
        let mut command = installation.command(&["show", nobody]);
        assert_eq!(command.stdout(stdout).stderr(stderr).status().await.unwrap().code(), Some(3));
    }
    // A reader that has enough is no error.
    let mut command = installation.command(&["list"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_text_reaches_the_terminal_as_a_command() {
    const EVIL: &str = "X\u{1b}[31m\u{1b}]0;title\u{7}\r\nrun forged\u{8}\u{9b}2J\u{202e}";
    let installation = Installation::new().await;
    let client = installation.client().await;
    let asks = Step::new("a", "nobody").approval(Approval::ask(EVIL).choices(["yes\u{1b}[2J", "no"]));
    client.deploy(&Flow::new("f", 1).step(asks)).await.unwrap();
    let start = Start::new(&json!({ "note": EVIL })).unwrap().name(EVIL).metadata(&json!({ "k": EVIL })).unwrap();
    let run = client.start_with("f", start).await.unwrap().id();
    let id = run.to_string();
    std::mem::forget(client.try_lock(EVIL, EVIL, std::time::Duration::from_secs(60)).await);
    installation.longhaul(&["annotate", &id, "{\"a\": 1}", "--by", EVIL]).await;
    client.pause_queue("default", Some(EVIL)).await.unwrap();
    let missing = format!("no-such{EVIL}");
    let commands: &[&[&str]] = &[
        &["list"],
        &["show", &id],
        &["show", &id, "--timeline"],
        &["questions"],
        &["lock", "list"],
        &["queue", "list"],
        &["doctor"],
        &["wait", &id, "--timeout", "10ms"],
        &["flow", "show", "f"],
        &["flow", "show", &missing],
        &["start", &missing],
        &["signal", &missing, "t"],
        &["stop", &id],
        &["wait", &id],
    ];
    for arguments in commands.iter().flat_map(|words| [words.to_vec(), [*words, &["--json"]].concat()]) {
        let output = installation.longhaul(&arguments).await;
        for bytes in [output.stdout, output.stderr] {
            let text = String::from_utf8(bytes).unwrap();
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(bad), "{arguments:?}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("run forged")), "{arguments:?}: {text:?}");
        }
    }
    // For programs it is the same text.
    let listed = installation.longhaul(&["list", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["name"], EVIL);
}
