//! What people see in a terminal of 80 columns and 24 lines.

use longhaul_ops::handlers::Permissions;
use longhaul_schema::{Flow, Step};

use crate::{
    screen::Screen,
    server::{Installation, stderr, stdout},
};

async fn with_runs(flow: &str, runs: usize) -> (Installation, Vec<String>) {
    let installation = Installation::new().await;
    let client = installation.client().await;
    client.deploy(&Flow::new(flow, 1).step(Step::new("a", "nobody"))).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..runs {
        ids.push(client.start(flow, &number).await.unwrap().id().to_string());
    }
    (installation, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_queues_pauses_one_after_a_question_and_leaves_an_ordinary_terminal() {
    let (installation, _) = with_runs("shop.order", 3).await;
    let mut screen = Screen::start(&installation, &["top", "--every", "200ms"]);
    let seen = screen.until("no worker").await;
    for text in ["longhaul top", "ready 3", "1 queues", "4 failures", "QUEUE", "default", "DONE/s", "q leave"] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    assert!(seen.lines().count() <= 24 && seen.lines().all(|line| line.chars().count() <= 80), "{seen}");

    // Another key than y is a no.
    screen.press("p");
    screen.until("Pause queue default? [y/N]").await;
    screen.press("n");
    screen.until_it("no question", |seen| !seen.contains("Pause queue")).await;
    screen.press("p");
    screen.until("Pause queue default? [y/N]").await;
    screen.press("y");
    screen.until("queue default paused").await;
    screen
        .until_it("the state", |seen| seen.lines().any(|line| line.starts_with("default") && line.contains("paused")))
        .await;
    screen.press("p");
    screen.until("Let queue default go on?").await;
    screen.press("y");
    screen.until("queue default resumed").await;

    // Sorting and other panes.
    screen.press("s");
    screen.until("by ready").await;
    installation.work(&Permissions::default());
    screen.press("2");
    screen.until("HOLDS").await;
    screen.until_it("a worker", |seen| seen.contains("active")).await;
    screen.press("\t");
    screen.until("ATTEMPT").await;
    screen.press("4");
    screen.until("AGO").await;
    screen.press("q");
    assert_eq!(screen.end().await.0, 0);
    assert!(screen.is_ordinary());
}

#[tokio::test(flavor = "multi_thread")]
async fn top_leaves_an_ordinary_terminal_at_control_c_and_when_it_is_told_to_end() {
    let (installation, _) = with_runs("f", 1).await;
    let mut screen = Screen::start(&installation, &["top"]);
    screen.until("QUEUE").await;
    assert!(!screen.is_ordinary(), "it has a screen of its own");
    screen.press("\u{3}");
    assert_eq!(screen.end().await.0, 0);
    assert!(screen.is_ordinary());
    let mut screen = Screen::start(&installation, &["top"]);
    screen.until("QUEUE").await;
    // SAFETY: kill has no memory preconditions; the process is our own child.
    assert_eq!(unsafe { libc::kill(screen.pid(), libc::SIGTERM) }, 0);
    assert_eq!(screen.end().await.0, 0);
    assert!(screen.is_ordinary());
    let elsewhere = installation.longhaul(&["top"]).await;
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(stderr(&elsewhere).contains("top needs a terminal"), "{}", stderr(&elsewhere));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_fit_a_narrow_terminal_and_what_they_show_of_an_id_is_understood() {
    let (installation, ids) = with_runs("a.flow.with.a.long.name", 3).await;
    let client = installation.client().await;
    client.run(ids[0].parse().unwrap()).rename(Some("a name that is rather long for such a table")).await.unwrap();
    let (_, seen) = Screen::start(&installation, &["list"]).end().await;
    let line = seen.lines().find(|line| line.contains("rather")).unwrap_or_else(|| panic!("{seen}"));
    let short = seen
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|word| word.ends_with(&ids[0][32..]))
        .unwrap_or_else(|| panic!("{seen}"));
    assert!(short.contains('…') && line.chars().count() <= 80, "{seen}");
    let shown = installation.longhaul(&["show", short]).await;
    assert!(stdout(&shown).contains(&ids[0]), "{}{}", stdout(&shown), stderr(&shown));
    let shown = installation.longhaul(&["why", &short.replace('…', "..")]).await;
    assert!(stdout(&shown).contains("no worker takes handler nobody"), "{}{}", stdout(&shown), stderr(&shown));
    // Where no terminal is, all is written in full.
    let listed = stdout(&installation.longhaul(&["list"]).await);
    assert!(ids.iter().all(|id| listed.contains(id)) && listed.lines().count() == 4, "{listed}");
    for arguments in [&["explain", short][..], &["workers"], &["queue", "list"], &["doctor"]] {
        let (_, seen) = Screen::start(&installation, arguments).end().await;
        assert!(seen.lines().all(|line| line.chars().count() <= 80), "{arguments:?}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_on_many_runs_shows_them_and_asks() {
    let (installation, _) = with_runs("f", 12).await;
    let live =
        || async { stdout(&installation.longhaul(&["list", "--state", "running", "--json"]).await).lines().count() };
    let mut screen = Screen::start(&installation, &["stop", "--flow", "f"]);
    let seen = screen.until("Stop 12 runs? [y/N]").await;
    assert!(seen.contains("and 2 more"), "{seen}");
    screen.press("n\r");
    let (code, seen) = screen.end().await;
    assert_eq!(code, 4);
    assert!(seen.contains("nothing was done"), "{seen}");
    assert_eq!(live().await, 12);
    let mut screen = Screen::start(&installation, &["stop", "--flow", "f"]);
    screen.until("Stop 12 runs? [y/N]").await;
    screen.press("y\r");
    let (code, seen) = screen.end().await;
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("12 runs stopped."), "{seen}");
    assert_eq!(live().await, 0);
}
