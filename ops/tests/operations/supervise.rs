//! Worker processes that are kept alive.

use std::time::Duration;

use crate::server::{Installation, PROGRAM};

/// Asks until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_end_or_hang_are_replaced_and_a_stop_reaches_them_all() {
    let installation = Installation::new().await;
    let mut command = installation.command(&[
        "supervise",
        "--processes",
        "2",
        "--every",
        "200ms",
        "--",
        PROGRAM,
        "worker",
        "--heartbeat",
        "200ms",
    ]);
    let mut supervisor = command.kill_on_drop(true).stderr(std::process::Stdio::null()).spawn().unwrap();
    let client = installation.client().await;
    let database = client.database().clone();
    let active = async || {
        let connection = database.connection().await.unwrap();
        let sql = format!(
            "select pid from {}.worker where state = 'active' and expires_at > now() order by pid",
            database.schema()
        );
        connection.query(&sql, &[]).await.unwrap().iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()
    };
    let first = until("two workers come", async || {
        let pids = active().await;
        (pids.len() == 2).then_some(pids)
    })
    .await;
    let send = |pid: i32, signal: &str| {
        assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    };
    // One ends, one hangs.
    send(first[0], "-KILL");
    send(first[1], "-STOP");
    let second = until("both are replaced", async || {
        let pids = active().await;
        (pids.len() == 2 && pids.iter().all(|pid| !first.contains(pid))).then_some(pids)
    })
    .await;
    send(supervisor.id().unwrap() as i32, "-TERM");
    let status = tokio::time::timeout(Duration::from_secs(30), supervisor.wait()).await.expect("it ends").unwrap();
    assert!(status.success());
    for pid in second {
        assert!(
            !std::process::Command::new("kill").args(["-0", &pid.to_string()]).status().unwrap().success(),
            "{pid} has ended"
        );
    }
    let gone: i64 = {
        let connection = database.connection().await.unwrap();
        let sql = format!("select count(*) from {}.worker where state = 'gone'", database.schema());
        connection.query_one(&sql, &[]).await.unwrap().get(0)
    };
    assert_eq!(gone, 2, "the last two left in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_told_at_once() {
    let installation = Installation::new().await;
    let output = installation.longhaul(&["supervise", "--", "/nowhere/program"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/program"));
}
