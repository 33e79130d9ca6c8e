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

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_keeps_nobody_from_being_replaced_or_stopped() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u@{}/d?sslmode=disable", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await);
        }
    });
    let script = "echo started $DATABASE_URL; exec sleep 600";
    let mut supervisor = tokio::process::Command::new(PROGRAM)
        .args(["supervise", "--database-url", &url, "--processes", "1", "--every", "100ms", "--", "sh", "-c", script])
        .env_remove("DATABASE_URL")
        .kill_on_drop(true)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let mut log = BufReader::new(supervisor.stderr.take().unwrap()).lines();
    let mut next_pid = async || loop {
        let line = log.next_line().await.unwrap().expect("the log goes on");
        if let Some((_, rest)) = line.split_once("process started pid=") {
            return rest.split(' ').next().unwrap().to_owned();
        }
    };
    let first = next_pid().await;
    assert_eq!(said.next_line().await.unwrap().unwrap(), format!("started {url}"), "it is told where the database is");
    assert!(std::process::Command::new("kill").args(["-KILL", &first]).status().unwrap().success());
    let second = tokio::time::timeout(Duration::from_secs(20), next_pid()).await.expect("it is replaced");
    assert_ne!(first, second);
    let pid = supervisor.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(Duration::from_secs(20), supervisor.wait()).await.expect("it obeys").unwrap();
    assert!(status.success());
    silent.abort();
}
