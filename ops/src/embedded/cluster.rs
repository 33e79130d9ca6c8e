//! A database cluster in a folder, and its server process.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use longhaul_schema::{Config, connect::ConnectOptions};

use super::{
    Binaries, EmbeddedError,
    owner::{self, Owner},
};
use crate::parent::end_with_parent;

/// Name of the superuser and of the database that a new cluster gets.
const NAME: &str = "longhaul";

/// How long a server may take to come up (it may have to recover from a crash), and to stop.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Where a cluster lives and how its server is set.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    folder: PathBuf,
    tcp_port: Option<u16>,
    settings: Vec<(String, String)>,
    binaries: Option<Binaries>,
}

impl ClusterOptions {
    /// A cluster in this folder (made when it is not there), reached by a Unix socket only.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), tcp_port: None, settings: Vec::new(), binaries: None }
    }

    /// Listens on this port of 127.0.0.1 as well, without a password: anybody on the machine can connect.
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.tcp_port = Some(port);
        self
    }

    /// Sets a server parameter.
    pub fn set(mut self, parameter: &str, value: &str) -> Self {
        self.settings.push((parameter.into(), value.into()));
        self
    }

    /// Uses these programs instead of looking for some.
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    /// Makes the cluster if necessary and starts its server. A server that an earlier process left running is stopped first.
    pub async fn start(self) -> Result<Cluster, EmbeddedError> {
        let prepared = tokio::task::spawn_blocking(move || Cluster::prepare(self)).await;
        let mut cluster = prepared.map_err(|e| EmbeddedError::NotStarted(e.to_string()))??;
        cluster.start().await?;
        Ok(cluster)
    }
}

/// A cluster whose server runs until [`Cluster::stop`], or until this process ends.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    binaries: Binaries,
    owner: Option<Owner>,
    data: PathBuf,
    sockets: PathBuf,
    log: PathBuf,
    server: Option<Server>,
}

/// The running server. Its thread waits for it, so that "ends with its parent" means the process and not some thread of it.
#[derive(Debug)]
struct Server {
    pid: u32,
    ended: mpsc::Receiver<()>,
}

impl Cluster {
    fn prepare(options: ClusterOptions) -> Result<Self, EmbeddedError> {
        let binaries = match options.binaries.clone() {
            Some(binaries) => binaries,
            None => Binaries::find()?,
        };
        let owner = Owner::needed()?;
        let folder = owner::reachable(owner, &options.folder)?;
        let data = folder.join("postgres");
        let mut sockets = folder.join("socket");
        if !owner::socket_fits(&sockets) {
            let name =
                folder.to_string_lossy().bytes().fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
            sockets = PathBuf::from(format!("/tmp/longhaul-{name:016x}"));
        }
        let log = folder.join("postgres.log");
        for folder in [&data, &sockets] {
            make_private(folder, owner)?;
        }
        let cluster = Self { options, binaries, owner, data, sockets, log, server: None };
        cluster.stop_leftover();
        if !cluster.data.join("PG_VERSION").exists() {
            cluster.init()?;
        }
        cluster.check_version()?;
        Ok(cluster)
    }

    fn init(&self) -> Result<(), EmbeddedError> {
        tracing::info!(folder = %self.data.display(), version = self.binaries.version(), "making a database cluster");
        let mut initdb = self.command("initdb");
        initdb.args([
            "--username",
            NAME,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-instructions",
            "-D",
        ]);
        let output = initdb.arg(&self.data).output().map_err(EmbeddedError::io("initdb"))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(EmbeddedError::Program { program: "initdb".into(), output: String::from_utf8_lossy(&text).trim().into() })
    }

    fn check_version(&self) -> Result<(), EmbeddedError> {
        let file = self.data.join("PG_VERSION");
        let text = std::fs::read_to_string(&file).map_err(EmbeddedError::io(format!("reading {}", file.display())))?;
        if text.trim() == self.binaries.version().to_string() {
            return Ok(());
        }
        Err(EmbeddedError::Unsupported(format!(
            "{} was made by PostgreSQL {}, but the programs found are of version {}; name the right ones in LONGHAUL_PG_BIN",
            self.data.display(),
            text.trim(),
            self.binaries.version()
        )))
    }

    /// A program of PostgreSQL, run by the ordinary user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        command.current_dir("/").stdin(Stdio::null());
        if let Some(owner) = self.owner {
            owner.run_as(&mut command);
        }
        command
    }

    /// A server whose parent was killed may still run, and would keep the new one from starting.
    fn stop_leftover(&self) {
        let file = self.data.join("postmaster.pid");
        let Some(pid) = std::fs::read_to_string(&file).ok().and_then(|text| text.lines().next()?.trim().parse().ok())
        else {
            return;
        };
        if !is_postgres(pid) {
            return;
        }
        tracing::warn!(pid, "stopping the server that an earlier process left running");
        let started = Instant::now();
        while file.exists() && is_postgres(pid) && started.elapsed() < STOP_LIMIT {
            owner::signal(pid, if started.elapsed() < STOP_LIMIT / 2 { libc::SIGINT } else { libc::SIGQUIT });
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts the server again after [`Cluster::stop`] or [`Cluster::kill`].
    pub async fn start(&mut self) -> Result<(), EmbeddedError> {
        let mut postgres = self.command("postgres");
        let listen = if self.options.tcp_port.is_some() { "127.0.0.1" } else { "" };
        postgres.arg("-D").arg(&self.data).arg("-k").arg(&self.sockets).arg("-p").arg(self.port().to_string());
        for (parameter, value) in [("listen_addresses", listen)].into_iter().chain(self.settings()) {
            postgres.arg("-c").arg(format!("{parameter}={value}"));
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(EmbeddedError::io(format!("opening {}", self.log.display())))?;
        let errors = log.try_clone().map_err(EmbeddedError::io("opening the log"))?;
        // A group of its own: Ctrl-C in the terminal is for us, and we stop the server when everything else has ended.
        postgres.stdout(log).stderr(errors).process_group(0);
        // SIGINT is PostgreSQL's fast shutdown. Where the system cannot do this, the next start stops what was left running.
        end_with_parent(&mut postgres, libc::SIGINT);

        let (ended_out, ended) = mpsc::channel();
        let (pid_out, pid) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("postgres".into())
            .spawn(move || match postgres.spawn() {
                Ok(mut child) => {
                    let _ = pid_out.send(Ok(child.id()));
                    let _ = child.wait();
                    let _ = ended_out.send(());
                }
                Err(error) => {
                    let _ = pid_out.send(Err(error));
                }
            })
            .map_err(EmbeddedError::io("starting a thread"))?;
        let pid = pid
            .await
            .map_err(|e| EmbeddedError::NotStarted(e.to_string()))?
            .map_err(EmbeddedError::io("starting postgres"))?;
        self.server = Some(Server { pid, ended });
        self.wait_until_ready().await
    }

    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.settings.iter().map(|(parameter, value)| (parameter.as_str(), value.as_str()))
    }

    async fn wait_until_ready(&mut self) -> Result<(), EmbeddedError> {
        let started = Instant::now();
        let options = ConnectOptions::parse(&self.connection_string("postgres"))?;
        loop {
            match options.postgres.connect(tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    let there = client.query_opt("select from pg_database where datname = $1", &[&NAME]).await;
                    if there.map_err(longhaul_schema::Error::from)?.is_none() {
                        let made = client.batch_execute(&format!("create database {NAME}")).await;
                        made.map_err(longhaul_schema::Error::from)?;
                    }
                    drop(client);
                    let _ = connection.await;
                    return Ok(());
                }
                Err(error) if started.elapsed() > START_LIMIT => {
                    return Err(EmbeddedError::NotStarted(error.to_string()));
                }
                Err(_) => {}
            }
            if self.server.as_ref().is_some_and(|server| server.ended.try_recv().is_ok()) {
                self.server = None;
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().rev().take(8).collect();
                return Err(EmbeddedError::NotStarted(lines.into_iter().rev().collect::<Vec<_>>().join("\n")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the server: connections are cut, everything is written.
    pub async fn stop(&mut self) {
        self.end(libc::SIGINT).await;
    }

    /// Ends the server as a crash would: nothing more is written, the next start recovers.
    pub async fn kill(&mut self) {
        self.end(libc::SIGQUIT).await;
    }

    async fn end(&mut self, signal: libc::c_int) {
        let Some(server) = self.server.take() else { return };
        owner::signal(server.pid, signal);
        let waiting = tokio::task::spawn_blocking(move || {
            if server.ended.recv_timeout(STOP_LIMIT).is_err() {
                owner::signal(server.pid, libc::SIGQUIT);
                let _ = server.ended.recv_timeout(STOP_LIMIT);
            }
        });
        let _ = waiting.await;
    }

    /// Whether the server runs; it ends by itself when it cannot go on, as when recovery meets a full disk.
    pub fn is_running(&mut self) -> bool {
        if self.server.as_ref().is_some_and(|server| server.ended.try_recv().is_ok()) {
            self.server = None;
        }
        self.server.is_some()
    }

    /// Process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.pid)
    }

    /// How to connect to one of its databases, as libpq's `key=value` pairs.
    pub fn connection_string(&self, database: &str) -> String {
        format!("host='{}' port={} user={NAME} dbname={database} sslmode=disable", self.sockets.display(), self.port())
    }

    /// The server's folder of sockets.
    pub fn socket_folder(&self) -> &Path {
        &self.sockets
    }

    /// Port, which is part of the socket's name as well.
    pub fn port(&self) -> u16 {
        self.options.tcp_port.unwrap_or(5432)
    }

    /// Settings for its database `longhaul`.
    pub fn config(&self) -> Result<Config, EmbeddedError> {
        Ok(Config::from_url(&self.connection_string(NAME))?)
    }

    /// The line that opens psql on its database.
    pub fn psql_line(&self) -> String {
        format!("psql -h '{}' -p {} -U {NAME} {NAME}", self.sockets.display(), self.port())
    }

    /// Major version of the server.
    pub fn version(&self) -> u32 {
        self.binaries.version()
    }
}

impl Drop for Cluster {
    /// Asks the server to stop; whoever wants to wait for it calls [`Cluster::stop`].
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            owner::signal(server.pid, libc::SIGINT);
        }
    }
}

/// Makes a folder that only its owner can enter.
fn make_private(folder: &Path, owner: Option<Owner>) -> Result<(), EmbeddedError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = || format!("making {}", folder.display());
    std::fs::create_dir_all(folder).map_err(EmbeddedError::io(failed()))?;
    if let Some(owner) = owner {
        owner.own(folder)?;
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(EmbeddedError::io(failed()))
}

/// Whether a process is a PostgreSQL server, and not another that has got the number since.
fn is_postgres(pid: u32) -> bool {
    let alive = owner::signal(pid, 0);
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => name.trim().starts_with("postgres"),
        Err(_) => alive && !Path::new("/proc/self").exists(),
    }
}
