//! The nemesis, and the fleet that it haunts.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use longhaul::Config;
use longhaul_ops::embedded::Cluster;
use rand::{Rng, rngs::StdRng};

use crate::worker::LEASE;

/// The worker processes.
pub struct Fleet {
    workers: Vec<Child>,
    /// Until when each is frozen.
    frozen: Vec<Option<Instant>>,
    url: String,
    records: PathBuf,
    started: usize,
}

impl Fleet {
    pub fn start(count: usize, config: &Config, records: &Path) -> std::io::Result<Self> {
        let mut fleet = Self {
            workers: Vec::new(),
            frozen: vec![None; count],
            url: config.connection.to_url(),
            records: records.into(),
            started: 0,
        };
        for _ in 0..count {
            let worker = fleet.spawn()?;
            fleet.workers.push(worker);
        }
        Ok(fleet)
    }

    /// A new process, with a record of its own.
    fn spawn(&mut self) -> std::io::Result<Child> {
        self.started += 1;
        let record = self.records.join(format!("worker-{}", self.started));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg(record).env("DATABASE_URL", &self.url).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn()
    }

    fn signal(&self, worker: usize, signal: libc::c_int) {
        // SAFETY: kill has no memory preconditions; the process is our own child, and is waited for only when it is replaced.
        unsafe { libc::kill(self.workers[worker].id() as i32, signal) };
    }

    /// SIGKILL, and a new process in its place.
    fn kill(&mut self, worker: usize) -> std::io::Result<()> {
        self.workers[worker].kill()?;
        self.workers[worker].wait()?;
        self.frozen[worker] = None;
        self.workers[worker] = self.spawn()?;
        Ok(())
    }

    /// SIGTERM, and a new process in its place.
    fn replace(&mut self, worker: usize) -> std::io::Result<()> {
        self.signal(worker, libc::SIGCONT);
        self.signal(worker, libc::SIGTERM);
        self.frozen[worker] = None;
        let new = self.spawn()?;
        let mut old = std::mem::replace(&mut self.workers[worker], new);
        std::thread::spawn(move || old.wait());
        Ok(())
    }

    fn freeze(&mut self, worker: usize, time: Duration) {
        self.signal(worker, libc::SIGSTOP);
        self.frozen[worker] = Some(Instant::now() + time);
    }

    fn thaw(&mut self, before: Instant) {
        for worker in 0..self.workers.len() {
            if self.frozen[worker].is_some_and(|until| until <= before) {
                self.signal(worker, libc::SIGCONT);
                self.frozen[worker] = None;
            }
        }
    }

    /// All are awake, and those that ended are replaced.
    pub fn heal(&mut self) -> std::io::Result<()> {
        self.thaw(Instant::now() + Duration::from_secs(3600));
        for worker in 0..self.workers.len() {
            if self.workers[worker].try_wait()?.is_some() {
                self.workers[worker] = self.spawn()?;
            }
        }
        Ok(())
    }

    pub async fn stop(&mut self) -> std::io::Result<()> {
        for worker in 0..self.workers.len() {
            self.signal(worker, libc::SIGTERM);
        }
        for worker in &mut self.workers {
            while worker.try_wait()?.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// How often each fault was injected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    killed: u32,
    terminated: u32,
    frozen: u32,
    backends: u32,
    crashes: u32,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} workers killed, {} told to stop, {} frozen past their leases; {} times all connections cut, {} crashes of the server",
            self.killed, self.terminated, self.frozen, self.backends, self.crashes
        )
    }
}

/// Injects faults until the time is over.
pub async fn rage(
    fleet: &mut Fleet,
    cluster: &mut Cluster,
    random: &mut StdRng,
    until: Instant,
) -> Result<Faults, Box<dyn std::error::Error>> {
    let mut faults = Faults::default();
    let config = cluster.config()?;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..700))).await;
        fleet.thaw(Instant::now());
        let worker = random.random_range(0..fleet.workers.len());
        match random.random_range(0..20) {
            0..6 => {
                faults.killed += 1;
                fleet.kill(worker)?;
            }
            6..9 => {
                faults.terminated += 1;
                fleet.replace(worker)?;
            }
            9..15 => {
                faults.frozen += 1;
                fleet.freeze(worker, LEASE + Duration::from_millis(random.random_range(200..1500)));
            }
            15..19 => {
                faults.backends += 1;
                cut_connections(&config).await;
            }
            _ => {
                faults.crashes += 1;
                cluster.kill().await;
                cluster.start().await?;
            }
        }
    }
    Ok(faults)
}

/// Terminates all backends of the database but its own. When even that fails, that is a fault as well.
async fn cut_connections(config: &Config) {
    if let Ok((client, connection)) = config.connection.postgres.connect(tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
        let _ = client.batch_execute(sql).await;
    }
}
