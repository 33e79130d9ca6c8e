//! The nemesis, and the fleet that it haunts.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use longhaul::Config;
use longhaul_ops::embedded::{Cluster, EmbeddedError};
use rand::{Rng, rngs::StdRng};

use crate::{clock, network::Network, volume::Volume, worker::LEASE};

/// The tenant of the first worker; the others work for `default`.
pub const OTHER_TENANT: &str = "other";

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
    /// Worker processes that reach the server by this URL; one of them works for another tenant.
    pub fn start(count: usize, url: &str, records: &Path) -> std::io::Result<Self> {
        let mut fleet = Self {
            workers: Vec::new(),
            frozen: vec![None; count],
            url: url.into(),
            records: records.into(),
            started: 0,
        };
        for place in 0..count {
            let worker = fleet.spawn(place)?;
            fleet.workers.push(worker);
        }
        Ok(fleet)
    }

    /// A new process, with a record of its own.
    fn spawn(&mut self, place: usize) -> std::io::Result<Child> {
        self.started += 1;
        let record = self.records.join(format!("worker-{}", self.started));
        let mut command = Command::new(std::env::current_exe()?);
        let tenant = if place == 0 { OTHER_TENANT } else { "default" };
        command
            .arg("--worker")
            .arg(record)
            .arg("--tenant")
            .arg(tenant)
            .env("DATABASE_URL", &self.url)
            .env(clock::OFFSET, clock::OFFSETS[self.started % clock::OFFSETS.len()].to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
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
        self.workers[worker] = self.spawn(worker)?;
        Ok(())
    }

    /// SIGTERM, and a new process in its place.
    fn replace(&mut self, worker: usize) -> std::io::Result<()> {
        self.signal(worker, libc::SIGCONT);
        self.signal(worker, libc::SIGTERM);
        self.frozen[worker] = None;
        let new = self.spawn(worker)?;
        let mut old = std::mem::replace(&mut self.workers[worker], new);
        std::thread::spawn(move || old.wait());
        Ok(())
    }

    fn freeze(&mut self, worker: usize, time: Duration) {
        self.signal(worker, libc::SIGSTOP);
        self.frozen[worker] = Some(Instant::now() + time);
    }

    /// A frozen worker is left alone: that it wakes, and goes on, is the fault.
    fn is_frozen(&self, worker: usize) -> bool {
        self.frozen[worker].is_some()
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
                self.workers[worker] = self.spawn(worker)?;
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
    one_way: u32,
    slow: u32,
    cut: u32,
    crowds: u32,
    reinstalled: u32,
    full_disks: u32,
    crashes: u32,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} workers killed, {} told to stop, {} frozen past their leases; {} times all backends terminated; the network of workers \
             cut {} times, answers lost {} times, slow {} times; {} times no connection left for anybody; {} times all functions installed \
             anew; {} times the disk full; {} crashes of the server",
            self.killed,
            self.terminated,
            self.frozen,
            self.backends,
            self.cut,
            self.one_way,
            self.slow,
            self.crowds,
            self.reinstalled,
            self.full_disks,
            self.crashes
        )
    }
}

/// Injects faults until the time is over.
pub async fn rage(
    fleet: &mut Fleet,
    network: &Network,
    cluster: &mut Cluster,
    volume: Option<&Volume>,
    random: &mut StdRng,
    until: Instant,
) -> Result<Faults, Box<dyn std::error::Error>> {
    let mut faults = Faults::default();
    let config = cluster.config()?;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..700))).await;
        fleet.thaw(Instant::now());
        revive(cluster).await?;
        let worker = random.random_range(0..fleet.workers.len());
        match random.random_range(0..32) {
            0..15 if fleet.is_frozen(worker) => {}
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
            15..18 => {
                faults.backends += 1;
                cut_connections(&config).await;
            }
            18..21 => {
                faults.cut += 1;
                network.cut();
            }
            21..24 => {
                // Calls arrive and are carried out; their answers are lost, and then the connections.
                faults.one_way += 1;
                network.lose_answers(true);
                tokio::time::sleep(Duration::from_millis(random.random_range(20..300))).await;
                // In this order: whoever has lost an answer is cut.
                network.lose_answers(false);
                network.cut();
            }
            24..26 => {
                faults.slow += 1;
                network.delay(Duration::from_millis(random.random_range(20..200)));
                tokio::time::sleep(Duration::from_millis(random.random_range(200..800))).await;
                network.delay(Duration::ZERO);
            }
            26..28 => {
                faults.crowds += 1;
                crowd(&config, Duration::from_millis(random.random_range(100..600))).await;
            }
            28 => {
                faults.reinstalled += 1;
                // It may meet another fault; then nothing is installed.
                let _ = install_anew(&config).await;
            }
            29..31 => {
                // The same numbers are drawn where no volume can be had, so that the other faults stay the same.
                let time = Duration::from_millis(random.random_range(200..1500));
                if let Some(volume) = volume {
                    faults.full_disks += 1;
                    volume.fill()?;
                    tokio::time::sleep(time).await;
                    volume.widen()?;
                }
            }
            _ => {
                faults.crashes += 1;
                cluster.kill().await;
                cluster.start().await?;
            }
        }
    }
    revive(cluster).await?;
    Ok(faults)
}

/// Starts the server when it has given up, as it does when recovery meets a full disk.
async fn revive(cluster: &mut Cluster) -> Result<(), EmbeddedError> {
    if cluster.is_running() { Ok(()) } else { cluster.start().await }
}

/// The gentle half: workers that are killed, told to stop, and frozen.
pub async fn unsettle(fleet: &mut Fleet, random: &mut StdRng, until: Instant) -> std::io::Result<()> {
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..900))).await;
        fleet.thaw(Instant::now());
        let worker = random.random_range(0..fleet.workers.len());
        match random.random_range(0..3) {
            _ if fleet.is_frozen(worker) => {}
            0 => fleet.kill(worker)?,
            1 => fleet.replace(worker)?,
            _ => fleet.freeze(worker, LEASE + Duration::from_millis(random.random_range(200..1000))),
        }
    }
    Ok(())
}

/// Takes all connections that the server has left, for some time.
async fn crowd(config: &Config, time: Duration) {
    let mut taken = Vec::new();
    while taken.len() < 200 {
        let Ok((client, connection)) = config.connection.postgres.connect(tokio_postgres::NoTls).await else { break };
        tokio::spawn(connection);
        taken.push(client);
    }
    tokio::time::sleep(time).await;
}

/// Installs all functions again under the load, as an upgrade does.
async fn install_anew(config: &Config) -> Result<(), longhaul::Error> {
    let database = longhaul::Database::new(config)?;
    database.connection().await?.batch_execute("drop function if exists longhaul.installed_functions()").await?;
    longhaul::migrate::migrate(&database).await?;
    Ok(())
}

/// Terminates all backends of the database but its own. When even that fails, that is a fault as well.
async fn cut_connections(config: &Config) {
    if let Ok((client, connection)) = config.connection.postgres.connect(tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
        let _ = client.batch_execute(sql).await;
    }
}
