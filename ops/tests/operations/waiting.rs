//! What the program says of runs that have not ended: `why`, and what a wait waits for. And who works.

use std::process::Stdio;

use longhaul_ops::handlers::Permissions;
use longhaul_schema::{Approval, Flow, Step};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::server::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_the_run_and_what_it_waits_for() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    let asks = Step::new("pay", "nobody").approval(Approval::ask("Pay it?").pauses_step());
    let flow = Flow::new("f", 1).step(asks).step(Step::new("pack", "no.such-handler"));
    client.deploy(&flow).await.unwrap();
    let mut waiting =
        installation.command(&["start", "f", "--wait"]).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let first = said.next_line().await.unwrap().unwrap();
    let run = client.list(&Default::default()).await.unwrap()[0].id.to_string();
    assert_eq!(first, format!("run {run} started"));
    let mut text = String::new();
    while !(text.contains("Pay it?") && text.contains("no worker takes handler no.such-handler")) {
        text += &said.next_line().await.unwrap().expect("it goes on saying");
    }
    assert!(text.contains(&format!("longhaul decide {run} pay CHOICE; CHOICE is one of: approve, reject")), "{text}");
    waiting.kill().await.unwrap();

    let why = installation.longhaul(&["why", &run]).await;
    let why = String::from_utf8(why.stdout).unwrap();
    assert!(why.contains("Pay it?") && why.contains("no.such-handler"), "{why}");
    assert_eq!(installation.longhaul(&["why", &run, "nothing"]).await.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_and_drained_and_what_they_hold_is_shown() {
    let installation = Installation::new().await;
    installation.work(&Permissions { programs: vec!["sleep".into()], ..Permissions::default() });
    let client = installation.client().await;
    let settings = serde_json::json!({ "program": "sleep", "args": ["600"] });
    client.deploy(&Flow::new("f", 1).step(crate::server::step("command", 1, settings))).await.unwrap();
    let run = client.start("f", &0).await.unwrap().id().to_string();
    let ask = async |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = installation.longhaul(&arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let mut leases = Vec::new();
    while leases.is_empty() {
        leases = ask(&["lease", "list"]).await;
    }
    assert_eq!(leases[0]["run"], run);
    let workers = ask(&["worker", "list"]).await;
    assert_eq!((workers.len(), &workers[0]["state"]), (1, &"active".into()));
    assert_eq!(workers[0]["handlers"], serde_json::json!(["command", "http"]));
    let id = workers[0]["id"].to_string();
    assert_eq!(ask(&["worker", "drain", &id, "--no-wait"]).await[0]["changed"], true);
    assert_eq!(installation.longhaul(&["worker", "drain", "999999"]).await.status.code(), Some(3));
    for table in [&["worker", "list", "--all"][..], &["lease", "list"]] {
        assert!(installation.longhaul(table).await.status.success(), "{table:?}");
    }
    client.run(run.parse().unwrap()).stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_does_not_mean_all_dead_letters() {
    let installation = Installation::new().await;
    for verb in ["retry", "discard"] {
        let output = installation.longhaul(&["dead", verb]).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--all"));
        for more in [&["--all"][..], &["--since", "2h"], &["--since", "00:00"]] {
            let arguments: Vec<&str> = ["dead", verb].iter().chain(more).copied().collect();
            assert!(installation.longhaul(&arguments).await.status.success(), "{arguments:?}");
        }
    }
    // No worker is a warning; a probe wants to know.
    assert_eq!(installation.longhaul(&["doctor"]).await.status.code(), Some(0));
    assert_eq!(installation.longhaul(&["doctor", "--strict"]).await.status.code(), Some(1));
}
