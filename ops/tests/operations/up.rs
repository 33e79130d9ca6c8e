//! `longhaul up`: the embedded default.

use std::{path::Path, process::Stdio, time::Duration};

use longhaul_ops::embedded::temporary_folder;
use longhaul_scheduler::Client;
use longhaul_schema::{Config, Flow, Step, calls::RunFilter};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::server::PROGRAM;

/// A running `up`; killed when dropped.
struct Up {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Up {
    async fn start(data: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["up", "--workers", "1", "--allow-command", "printf", "--log", "warn", "--data"]).arg(data);
        command.env_remove("DATABASE_URL").stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut url = String::new();
        while let Some(line) = output.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("DATABASE_URL=\"") {
                url = rest.split('"').next().unwrap_or_default().to_owned();
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        assert!(!url.is_empty(), "it says how to connect");
        Self { process, output, url }
    }

    async fn client(&self) -> Client {
        Client::connect(&Config::from_url(&self.url).unwrap()).await.unwrap()
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        // SAFETY: kill has no memory preconditions; the process is our own child.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    async fn end(mut self, signal: libc::c_int) -> Option<i32> {
        self.signal(signal);
        let status =
            tokio::time::timeout(Duration::from_secs(60), self.process.wait()).await.expect("it ends").unwrap();
        assert!(self.output.next_line().await.unwrap_or_default().is_none(), "nothing more is said");
        status.code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_goes_on_where_it_stopped_and_where_it_was_killed() {
    let folder = temporary_folder().unwrap();
    let data = folder.path().join("it's \"my\" data, 100%");

    let up = Up::start(&data).await;
    let client = up.client().await;
    let mut step = Step::new("a", "command");
    step.parameters = json!({ "program": "printf", "args": ["%s", "{{ input.n }}"] }).as_object().cloned();
    client.deploy(&Flow::new("one", 1).step(step)).await.unwrap();
    let done = client.start("one", &json!({ "n": 1 })).await.unwrap();
    assert!(done.wait(Duration::from_secs(30)).await.unwrap().is_some());
    let later = longhaul_scheduler::Start::new(&json!({ "n": 2 })).unwrap().delay(Duration::from_secs(3600));
    let waiting = client.start_with("one", later).await.unwrap().id();
    drop((client, done));
    assert_eq!(up.end(libc::SIGINT).await, Some(0), "it stops cleanly");

    let up = Up::start(&data).await;
    let client = up.client().await;
    assert_eq!(client.list(&RunFilter::default()).await.unwrap().len(), 2, "everything is still there");
    client
        .database()
        .connection()
        .await
        .unwrap()
        .batch_execute("select longhaul.advance_clock('1 hour')")
        .await
        .unwrap();
    assert!(client.run(waiting).wait(Duration::from_secs(30)).await.unwrap().is_some());
    drop(client);
    up.end(libc::SIGKILL).await;

    // The server may have been left running, or is recovering: the next one comes up all the same.
    let up = Up::start(&data).await;
    let client = up.client().await;
    assert_eq!(client.list(&RunFilter::default()).await.unwrap().len(), 2);
    drop(client);
    assert_eq!(up.end(libc::SIGTERM).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_folder_is_refused_and_harms_nobody() {
    let folder = temporary_folder().unwrap();
    let up = Up::start(folder.path()).await;
    let mut second = Command::new(PROGRAM);
    second.args(["up", "--data"]).arg(folder.path()).env_remove("DATABASE_URL");
    let second = tokio::time::timeout(Duration::from_secs(60), second.output()).await.expect("it ends").unwrap();
    assert_eq!(second.status.code(), Some(4));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("in use by process {}", up.process.id().unwrap())), "{said}");
    up.client().await.list(&RunFilter::default()).await.expect("the first one's server is untouched");
    assert_eq!(up.end(libc::SIGTERM).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_is_started_again() {
    let folder = temporary_folder().unwrap();
    let up = Up::start(folder.path()).await;
    let file = folder.path().join("postgres/postmaster.pid");
    let pid = || std::fs::read_to_string(&file).ok()?.lines().next()?.parse::<libc::pid_t>().ok();
    let first = pid().unwrap();
    // SAFETY: kill has no memory preconditions; the server belongs to this test.
    assert_eq!(unsafe { libc::kill(first, libc::SIGKILL) }, 0);
    let mut client = None;
    for _ in 0..600 {
        if pid().is_some_and(|pid| pid != first)
            && let Ok(connected) = Client::connect(&Config::from_url(&up.url).unwrap()).await
        {
            client = Some(connected);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = client.expect("the server comes back");
    let mut step = Step::new("a", "command");
    step.parameters = json!({ "program": "printf", "args": ["ok"] }).as_object().cloned();
    client.deploy(&Flow::new("after", 1).step(step)).await.unwrap();
    let run = client.start("after", &json!({})).await.unwrap();
    assert!(run.wait(Duration::from_secs(60)).await.unwrap().is_some(), "workers and scheduler go on");
    drop((client, run));
    assert_eq!(up.end(libc::SIGINT).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tcp_only_who_knows_the_password_comes_in() {
    let folder = temporary_folder().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut cluster =
        longhaul_ops::embedded::ClusterOptions::new(folder.path().join("d")).tcp_port(port).start().await.unwrap();
    let url = |password: &str| format!("postgres://longhaul:{password}@127.0.0.1:{port}/longhaul?sslmode=disable");
    let connect = async |password: &str| {
        let config = Config::from_url(&url(password)).unwrap();
        longhaul_schema::Database::new(&config).unwrap().connection().await.map(drop)
    };
    connect("").await.unwrap_err();
    connect("guess").await.unwrap_err();
    let file = cluster.password_file().unwrap();
    connect(std::fs::read_to_string(file).unwrap().trim()).await.unwrap();
    use std::os::unix::fs::PermissionsExt;
    for private in ["password", "postgres.log"] {
        let mode = std::fs::metadata(folder.path().join("d").join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    cluster.stop().await;
}

#[test]
fn the_server_programs_are_found_however_slow_the_list_of_folders_is() {
    let folder = temporary_folder().unwrap();
    let program = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    let server = folder.path().join("server");
    program(&server.join("postgres"), "echo 'postgres (PostgreSQL) 15.1'");
    program(&server.join("initdb"), "true");
    // It answers when the first folder has been taken already.
    let tools = folder.path().join("tools");
    program(&tools.join("pg_config"), "sleep 1; echo /nowhere/bin");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-postgres");
    let output = std::process::Command::new("bash")
        .arg(script)
        .env("PATH", path)
        .env("LONGHAUL_PG_BIN", &server)
        .output()
        .unwrap();
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), server.to_str().unwrap());
}
