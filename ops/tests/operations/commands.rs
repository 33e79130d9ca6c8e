//! The commands, their output and their exit codes.

use std::process::Output;

use longhaul_ops::{embedded::temporary_folder, handlers::Permissions};
use serde_json::Value;

use crate::server::{Installation, PROGRAM};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

const FLOW: &str = "\
name: shout
version: 1
steps:
  - name: hello
    handler: command
    with: { program: printf, args: [\"hello %s\", \"{{ input.name }}\"] }
  - name: louder
    handler: command
    after: [hello]
    with: { program: printf, args: [\"%s\", \"{{ steps.hello.stdout | upper }}!\"] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_in_a_file_goes_from_deployment_to_its_output() {
    let installation = Installation::planned();
    let folder = temporary_folder().unwrap();
    let file = folder.path().join("shout.yaml");
    std::fs::write(&file, FLOW).unwrap();
    let file = file.to_str().unwrap();

    let early = installation.longhaul(&["list"]).await;
    assert_eq!(early.status.code(), Some(1));
    assert!(stderr(&early).contains("longhaul migrate"), "{}", stderr(&early));

    let dry = installation.longhaul(&["migrate", "--dry-run"]).await;
    assert!(dry.status.success() && stdout(&dry).contains("create table task"), "{}", stderr(&dry));
    assert!(installation.longhaul(&["migrate"]).await.status.success());
    assert!(stdout(&installation.longhaul(&["migrate"]).await).contains("up to date"));

    let deployed = installation.longhaul(&["flow", "deploy", file]).await;
    assert_eq!(stdout(&deployed), "shout version 1 deployed.\n");
    assert_eq!(
        stdout(&installation.longhaul(&["flow", "deploy", file]).await),
        "shout version 1 was deployed already.\n"
    );
    assert!(stdout(&installation.longhaul(&["flow", "list"]).await).contains("shout"));
    let shown = installation.longhaul(&["flow", "show", "shout", "--json"]).await;
    assert_eq!(json_lines(&shown)[0]["steps"][1]["after"], serde_json::json!(["hello"]));

    installation.work(&Permissions { programs: vec!["printf".into()], ..Permissions::default() });
    let started = installation.longhaul(&["start", "shout", r#"{"name": "Ann"}"#, "--wait", "--timeout", "30s"]).await;
    assert!(started.status.success(), "{}", stderr(&started));
    assert_eq!(serde_json::from_str::<Value>(&stdout(&started)).unwrap()["stdout"], "HELLO ANN!");

    let listed = json_lines(&installation.longhaul(&["list", "--state", "completed", "--json"]).await);
    assert_eq!(listed.len(), 1);
    let id = listed[0]["id"].as_str().unwrap();
    let shown = installation.longhaul(&["show", id]).await;
    assert!(stdout(&shown).contains("louder") && stdout(&shown).contains("completed"), "{}", stdout(&shown));
    let shown = json_lines(&installation.longhaul(&["show", id, "--json"]).await);
    assert_eq!(shown[0]["steps"][0]["output"]["stdout"], "hello Ann");
    let waited = json_lines(&installation.longhaul(&["wait", id, "--json"]).await);
    assert_eq!(waited[0]["state"], "completed");

    let later = json_lines(&installation.longhaul(&["start", "shout", "{}", "--delay", "1h", "--json"]).await);
    let later = later[0]["id"].as_str().unwrap();
    assert_eq!(stdout(&installation.longhaul(&["stop", later]).await), format!("{later} stopped.\n"));
    let again = installation.longhaul(&["stop", later]).await;
    assert_eq!(again.status.code(), Some(4));
    assert!(stderr(&again).contains("is cancelled and cannot be stopped"), "{}", stderr(&again));

    let lines = folder.path().join("lines.jsonl");
    std::fs::write(&lines, "{\"name\": \"a\"}\n\n{\"name\": \"b\"}\n").unwrap();
    let many = installation.longhaul(&["start", "shout", "--lines", lines.to_str().unwrap()]).await;
    let said = stdout(&many);
    assert!(said.starts_with("1\t") && said.contains("\n3\t"), "each line's run is named: {said}");
    assert!(said.ends_with("\n2 runs started, 0 lines refused.\n"), "{said}");
    std::fs::write(&lines, "{\"name\": \"a\"}\n{oops\n").unwrap();
    let many = installation.longhaul(&["start", "shout", "--lines", lines.to_str().unwrap()]).await;
    assert_eq!(many.status.code(), Some(2));
    assert!(stderr(&many).contains("line 2"), "{}", stderr(&many));

    let doctor = json_lines(&installation.longhaul(&["doctor", "--json"]).await);
    assert!(doctor.len() >= 7 && doctor.iter().all(|check| check["verdict"] != "failed"), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_flows_can_be_deployed_and_run() {
    let installation = Installation::new().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flows");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let deployed = installation.longhaul(&["flow", "deploy", file.to_str().unwrap()]).await;
        assert!(deployed.status.success(), "{}: {}", file.display(), stderr(&deployed));
        count += 1;
    }
    assert!(count >= 2);
    let programs = ["sha256sum", "stat", "printf"].map(str::to_owned).to_vec();
    installation.work(&Permissions { programs, ..Permissions::default() });
    let folder = temporary_folder().unwrap();
    let odd = folder.path().join("a \"b\"\n'c' ü.txt");
    std::fs::write(&odd, "hello\n").unwrap();
    let input = serde_json::json!({ "path": odd }).to_string();
    let run = installation.longhaul(&["start", "digest", &input, "--wait", "--timeout", "30s"]).await;
    assert!(run.status.success(), "{}", stderr(&run));
    let text = stdout(&run);
    assert!(
        text.contains("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03") && text.contains(" 6 bytes"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_went_wrong() {
    let installation = Installation::new().await;
    let folder = temporary_folder().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.yaml", FLOW);
    assert!(installation.longhaul(&["flow", "deploy", &good]).await.status.success());
    let changed = file("changed.yaml", &FLOW.replace("hello %s", "bye %s"));
    let cyclic = file(
        "cyclic.yaml",
        &FLOW.replace(
            "    handler: command\n    with: { program: printf, args: [\"hello",
            "    after: [louder]\n    handler: command\n    with: { program: printf, args: [\"hello",
        ),
    );
    let misspelt = file("misspelt.yaml", &FLOW.replace("handler", "handlr"));
    let nobody = "01900000-0000-7000-8000-000000000000";
    for (arguments, code, text) in [
        (vec!["flow", "deploy", changed.as_str()], 4, "raise the version number"),
        (vec!["flow", "deploy", &cyclic], 2, "cycle"),
        (vec!["flow", "deploy", &misspelt], 2, "misspelt.yaml"),
        (vec!["flow", "deploy", "/nowhere.yaml"], 2, "/nowhere.yaml"),
        (vec!["flow", "show", "nope"], 3, "there is no flow nope"),
        (vec!["start", "nope"], 3, "there is no flow nope"),
        (vec!["start", "shout", "{oops"], 2, "not JSON"),
        (vec!["start", "shout", "{}", "--priority", "5000"], 2, "priority"),
        (vec!["start", "shout", "@/nowhere"], 2, "/nowhere"),
        (vec!["show", nobody], 3, nobody),
        (vec!["stop", nobody], 3, nobody),
        (vec!["show", "no-id"], 2, "invalid value"),
        (vec!["list", "--state", "sleepy"], 2, "is not a state of a run"),
        (vec!["wait", nobody], 3, nobody),
        (vec!["start", "shout", "{}", "--wait", "--timeout", "50ms"], 124, "has not ended"),
        (vec!["--schema", "Bad-Name", "list"], 2, "not a schema name"),
        (vec!["--tenant", "", "list"], 2, "not a tenant name"),
        (vec!["worker", "--queue", "default=0"], 2, "slots"),
        (vec!["worker", "--handler", "nope"], 3, "allow-list names nope"),
    ] {
        let output = installation.longhaul(&arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
    }
    let error = installation.longhaul(&["show", nobody, "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&stderr(&error)).unwrap()["exit_code"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_as_such() {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(["list"]).env("DATABASE_URL", "postgres://x:secret@127.0.0.1:1/none?connect_timeout=1");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(!stderr(&output).contains("secret"));
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(["doctor"]).env("DATABASE_URL", "postgres://x@127.0.0.1:1/none?connect_timeout=1");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("x@127.0.0.1:1/none"), "{}", stdout(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_has_examples() {
    for (arguments, text) in [
        (vec!["--help"], "Exit codes"),
        (vec!["start", "--help"], "longhaul start order"),
        (vec!["worker", "--help"], "second signal"),
        (vec!["up", "--help"], "goes on where this one stopped"),
        (vec!["flow", "schema"], "$schema"),
    ] {
        let output = tokio::process::Command::new(PROGRAM).args(&arguments).output().await.unwrap();
        assert!(output.status.success() && stdout(&output).contains(text), "{arguments:?}");
    }
}
