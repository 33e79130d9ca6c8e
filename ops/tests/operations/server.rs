//! A private server that the tests of this program share, with Longhaul installed and a schema for each test.

use std::{
    path::PathBuf,
    process::Output,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use longhaul_ops::{
    embedded::{Cluster, ClusterOptions},
    handlers::{Permissions, built_in},
};
use longhaul_scheduler::{Client, Scheduler};
use longhaul_schema::{Config, Database, Flow, Retry, Step, calls::RunInfo, migrate};
use longhaul_worker::Worker;
use serde_json::Value;

static SERVER: OnceLock<String> = OnceLock::new();
static PRIVATE: Mutex<Option<(Cluster, PathBuf)>> = Mutex::new(None);
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Where the program is.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_longhaul");

/// A folder that the server's user can enter.
pub fn open_folder(prefix: &str) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    folder
}

fn connection_string() -> String {
    SERVER
        .get_or_init(|| match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => url,
            // A thread of its own, because tests have their own runtimes.
            _ => std::thread::spawn(start_private).join().expect("the server's thread"),
        })
        .clone()
}

fn start_private() -> String {
    let folder = open_folder("longhaul-operations-").keep();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let cluster =
        runtime.block_on(ClusterOptions::new(&folder).set("fsync", "off").set("max_connections", "200").start());
    let cluster = cluster.expect("a private PostgreSQL server");
    let text = cluster.connection_string("longhaul");
    *PRIVATE.lock().expect("lock") = Some((cluster, folder));
    // SAFETY: registers a function without arguments to be called at a normal exit.
    unsafe { libc::atexit(stop_private) };
    text
}

extern "C" fn stop_private() {
    let Some((mut cluster, folder)) = PRIVATE.lock().ok().and_then(|mut private| private.take()) else { return };
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(cluster.kill());
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// One installation, in a schema of its own.
pub struct Installation {
    pub config: Config,
    schema: String,
}

impl Installation {
    /// An empty schema name; nothing is installed.
    pub fn planned() -> Self {
        let schema = format!("test_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let config = Config::from_url(&connection_string()).expect("config").schema(&schema).expect("schema");
        Self { config, schema }
    }

    pub async fn new() -> Self {
        let installation = Self::planned();
        migrate::migrate(&Database::new(&installation.config).expect("pool")).await.expect("migrate");
        installation
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.config).await.expect("client")
    }

    /// Runs the program on this installation.
    pub async fn longhaul(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it ends").expect("it starts")
    }

    /// The program on this installation, to be started.
    pub fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(arguments).env("DATABASE_URL", connection_string()).env("LONGHAUL_SCHEMA", &self.schema);
        command.stdin(std::process::Stdio::null());
        command
    }

    /// A worker with the built-in handlers, and a scheduler; both end with the test.
    pub fn work(&self, permissions: &Permissions) {
        let worker =
            Worker::builder(&self.config).registry(built_in(permissions).expect("handlers")).expect("registry");
        let worker = worker.poll(Duration::from_millis(100)).build().expect("worker");
        tokio::spawn(worker.run_until(std::future::pending()));
        tokio::spawn(Scheduler::new(&self.config).expect("scheduler").run_until(std::future::pending()));
    }

    /// Runs a flow of one step with these settings to its end.
    pub async fn run_step(&self, step: Step, input: Value) -> RunInfo {
        let client = self.client().await;
        let name = format!("flow-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        client.deploy(&Flow::new(&name, 1).step(step)).await.expect("deploy");
        let run = client.start(&name, &input).await.expect("start");
        run.wait(Duration::from_secs(60)).await.expect("wait").expect("it ends in time")
    }
}

/// A step of this handler with a quick retry and these settings.
pub fn step(handler: &str, attempts: u16, settings: Value) -> Step {
    let mut step = Step::new("a", handler).retry(Retry::fixed(attempts, Duration::from_millis(1)));
    step.parameters = settings.as_object().cloned();
    step
}

/// The message of a failed run.
pub fn message(run: &RunInfo) -> String {
    let error: Value = run.error.as_ref().expect("it failed").read().expect("JSON");
    error["message"].as_str().unwrap_or_default().to_owned()
}
