//! A private server that the tests of this program share, with Longhaul installed and a schema for each test.

use std::{
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use longhaul_ops::{
    embedded::shared_for_tests,
    handlers::{Permissions, built_in},
};
use longhaul_scheduler::{Client, Scheduler};
use longhaul_schema::{Config, Database, Flow, Retry, Step, calls::RunInfo, migrate};
use longhaul_worker::Worker;
use serde_json::Value;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Where the program is.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_longhaul");

/// One installation, in a schema of its own.
pub struct Installation {
    pub config: Config,
    schema: String,
}

impl Installation {
    /// An empty schema name; nothing is installed.
    pub fn planned() -> Self {
        let schema = format!("test_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let config = shared_for_tests().schema(&schema).expect("schema");
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
        command.args(arguments).envs(self.variables());
        command.stdin(std::process::Stdio::null());
        command
    }

    /// The schema that it is in.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// What tells the program where this installation is.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [("DATABASE_URL", self.config.connection.to_url()), ("LONGHAUL_SCHEMA", self.schema.clone())]
    }

    /// A worker with the built-in handlers, and a scheduler; both end with the test.
    pub fn work(&self, permissions: &Permissions) {
        let worker = Worker::builder(&self.config).registry(built_in(permissions).expect("handlers"));
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

/// What the program said as results.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What it said besides.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Its results, one JSON value a line.
pub fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}
