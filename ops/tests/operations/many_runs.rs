//! Runs that are named in part, and acts on many of them.

use longhaul_scheduler::Start;
use longhaul_schema::{Flow, Step};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Installation, json_lines, stderr, stdout};

async fn with_flow(flow: &str) -> Installation {
    let installation = Installation::new().await;
    installation.client().await.deploy(&Flow::new(flow, 1).step(Step::new("a", "nobody"))).await.unwrap();
    installation
}

/// Starts a run under an id.
async fn start(installation: &Installation, flow: &str, id: &str) {
    let id: Uuid = id.parse().unwrap();
    installation.client().await.start_with(flow, Start::new(&1).unwrap().id(id)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_part_of_an_id_is_enough_and_of_several_runs_each_is_named() {
    let installation = with_flow("f").await;
    // Ids carry the present time, in their first twelve digits.
    let minute = |back: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let text = format!("{:012x}", now - back * 65_536);
        format!("{}-{}", &text[..8], &text[8..])
    };
    let (now, before) = (minute(0), minute(3));
    let [first, second, other] = [
        format!("{now}-7000-8000-00000000aaaa"),
        format!("{now}-7000-9000-00000000bbbb"),
        format!("{before}-7000-8000-00000000aaaa"),
    ];
    for id in [&first, &second, &other] {
        start(&installation, "f", id).await;
    }
    let (few, few_before) = (&now[..8], &before[..8]);
    for named in [
        few_before.to_owned(),
        before.to_uppercase(),
        format!("{now}-7000-9"),
        format!("{}70008", now.replace('-', "")),
        format!("{few}…aaaa"),
        format!("{few}..bbbb"),
        format!("{few_before}…aaaa"),
    ] {
        let shown = installation.longhaul(&["show", &named, "--json"]).await;
        assert!(shown.status.success(), "{named}: {}", stderr(&shown));
    }
    assert_eq!(json_lines(&installation.longhaul(&["show", &format!("{few}…bbbb"), "--json"]).await)[0]["id"], second);
    let several = installation.longhaul(&["show", few]).await;
    assert_eq!(several.status.code(), Some(2));
    let said = stderr(&several);
    assert!(said.contains(&first) && said.contains(&second) && !said.contains(&other), "{said}");
    for (named, code) in [("01000000", 3), (&format!("{few}…cccc"), 3), ("01000", 2), ("order", 2)] {
        assert_eq!(installation.longhaul(&["stop", named]).await.status.code(), Some(code), "{named}");
    }
    // Everywhere a run is named.
    for arguments in [
        &["why", few_before][..],
        &["explain", few_before, "a"],
        &["show", few_before, "--timeline"],
        &["questions", few_before],
        &["list", "--before", few_before],
        &["list", "--parent", few_before],
        &["dead", "list", "--run", few_before],
        &["rename", few_before, "a name"],
        &["annotate", few_before, "{\"k\": 1}"],
        &["signal", few_before, "t"],
        &["pause", few_before],
        &["stop", few_before],
        &["fork", few_before, "a"],
        &["delete", few_before],
    ] {
        let output = installation.longhaul(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
    assert_eq!(installation.longhaul(&["show", few_before]).await.status.code(), Some(3), "it is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_on_many_runs_are_previewed_and_want_a_yes() {
    let installation = with_flow("f").await;
    let client = installation.client().await;
    client.deploy(&Flow::new("g", 1).step(Step::new("a", "nobody"))).await.unwrap();
    for number in 0..15 {
        client.start("f", &number).await.unwrap();
        client.start("g", &number).await.unwrap();
    }
    let running = |flow: &'static str| {
        let installation = &installation;
        async move {
            json_lines(&installation.longhaul(&["list", "--flow", flow, "--state", "running", "--json"]).await).len()
        }
    };
    let silent = installation.longhaul(&["stop"]).await;
    assert_eq!(silent.status.code(), Some(2));
    assert!(stderr(&silent).contains("ids, a filter such as --flow, or --all"), "{}", stderr(&silent));
    let dry = installation.longhaul(&["stop", "--flow", "f", "--dry-run"]).await;
    assert!(dry.status.success());
    let said = stdout(&dry);
    assert!(said.contains("and 5 more\n15 runs would be stopped.") && said.lines().count() == 13, "{said}");
    let unasked = installation.longhaul(&["stop", "--flow", "f"]).await;
    assert_eq!(unasked.status.code(), Some(2), "nobody can answer");
    assert!(stderr(&unasked).contains("this would stop 15 runs; say --yes"), "{}", stderr(&unasked));
    assert_eq!(running("f").await, 15);

    let paused = installation.longhaul(&["pause", "--flow", "f", "--limit", "5", "--yes", "--json"]).await;
    assert_eq!(json_lines(&paused), [json!({ "matched": 5, "done": 5, "refused": 0, "dry_run": false })]);
    assert_eq!(running("f").await, 10);
    let resumed = installation.longhaul(&["resume", "--all", "-y"]).await;
    assert_eq!(stdout(&resumed), "5 runs resumed.\n");
    let stopped = installation.longhaul(&["stop", "--flow", "f", "--yes"]).await;
    assert_eq!(stdout(&stopped), "15 runs stopped.\n");
    assert_eq!((running("f").await, running("g").await), (0, 15));
    assert_eq!(
        stdout(&installation.longhaul(&["retry", "--flow", "f", "--since", "1h", "--yes"]).await),
        "15 runs retried.\n"
    );

    // What cannot be done to one run is told, and the others go on.
    installation.longhaul(&["stop", "--flow", "f", "--limit", "4", "--yes"]).await;
    let refused = installation.longhaul(&["stop", "--flow", "f", "--state", "cancelled", "--yes", "--json"]).await;
    assert_eq!(refused.status.code(), Some(4));
    let lines = json_lines(&refused);
    assert_eq!(lines.last().unwrap(), &json!({ "matched": 4, "done": 0, "refused": 4, "dry_run": false }));
    assert!(lines[0]["refused"].as_str().unwrap().contains("cannot be stopped"), "{lines:?}");
    let both = installation.longhaul(&["stop", "019b3f2a", "--flow", "f"]).await;
    assert_eq!(both.status.code(), Some(2));

    let deleted = installation.longhaul(&["delete", "--flow", "f", "--yes"]).await;
    assert_eq!(stdout(&deleted), "4 runs deleted.\n", "live ones stay");
    let live: Value = json_lines(&installation.longhaul(&["list", "--limit", "1", "--json"]).await).remove(0);
    let kept = installation.longhaul(&["delete", live["id"].as_str().unwrap()]).await;
    assert_eq!(kept.status.code(), Some(4));
    assert!(stderr(&kept).contains("is running and cannot be deleted"), "{}", stderr(&kept));
}
