//! Workers in processes of their own, for tests that kill or freeze them. The test program starts itself again, as the one
//! test `child_process`, with its orders in the environment.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use longhaul::{Config, StepContext, StepError, Worker, shutdown_signal};
use serde_json::Value;

use super::TestDb;

const ORDERS: &str = "LONGHAUL_TEST_CHILD";

/// A worker process. Killed when dropped.
pub struct Child {
    process: std::process::Child,
    /// Where its handlers write a line for every step that they begin.
    pub record: PathBuf,
}

impl Child {
    /// Starts a worker on the test's database with this many slots. Its handler `work` writes a line, waits as many
    /// milliseconds as its input's `ms` says, and writes another.
    pub fn start(db: &TestDb, slots: usize, record: &std::path::Path, lease: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
            .env(ORDERS, &db.name)
            .env("LONGHAUL_TEST_SLOTS", slots.to_string())
            .env("LONGHAUL_TEST_LEASE_MS", lease.as_millis().to_string())
            .env("LONGHAUL_TEST_RECORD", record)
            .env("DATABASE_URL", db.config.connection.to_url())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self { process: command.spawn().expect("a worker process"), record: record.into() }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill has no memory preconditions; the process is our own child.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> std::process::ExitStatus {
        loop {
            if let Some(status) = self.process.try_wait().expect("wait") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The lines that handlers have written so far.
    pub fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.record).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child process does: works until it is told to stop. Does nothing in an ordinary run of the tests.
pub fn child_main() {
    if std::env::var_os(ORDERS).is_none() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok()).expect("orders");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let lease = Duration::from_millis(number("LONGHAUL_TEST_LEASE_MS"));
    let worker = Worker::builder(&Config::from_env().expect("DATABASE_URL"))
        .name("child")
        .handler("work", work)
        .queue("default", number("LONGHAUL_TEST_SLOTS") as usize)
        .heartbeat(lease / 4)
        .lease(lease)
        .poll(Duration::from_millis(100))
        .grace(Duration::from_secs(2))
        .build()
        .expect("worker");
    runtime.block_on(worker.run_until(shutdown_signal())).expect("the worker");
    runtime.shutdown_background();
    std::process::exit(0);
}

/// Writes `begin run/seq token pid` and `end run/seq token pid`, with what the input demands in between.
async fn work(ctx: StepContext, input: Value) -> Result<Value, StepError> {
    let line =
        |word: &str| format!("{word} {} {} {}\n", ctx.idempotency_key(), ctx.fencing_token(), std::process::id());
    append(&line("begin"))?;
    tokio::time::sleep(Duration::from_millis(input["ms"].as_u64().unwrap_or(0))).await;
    append(&line("end"))?;
    Ok(serde_json::json!({ "by": std::process::id() }))
}

/// One write of less than a page: lines of several processes do not mix.
fn append(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    let path = std::env::var_os("LONGHAUL_TEST_RECORD").expect("orders");
    std::fs::File::options().create(true).append(true).open(path)?.write_all(line.as_bytes())
}
