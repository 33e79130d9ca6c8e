//! A database cluster in a folder, and its server process.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use longhaul_schema::{Config, connect::ConnectOptions};

use super::{Binaries, EmbeddedError, access, leftover, lock::FolderLock, owner::Owner, place, server::Server};
use crate::{parent::end_with_parent, shell::quoted};

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

    /// Listens on this port of 127.0.0.1 as well, with a password that stands in the folder: [`Cluster::password_file`].
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

/// A cluster whose server runs until [`Cluster::stop`], or until this process ends. Nobody else can use its folder meanwhile.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    binaries: Binaries,
    owner: Option<Owner>,
    folder: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    rules: PathBuf,
    /// The password for TCP, and its file.
    password: Option<(String, PathBuf)>,
    server: Option<Server>,
    _temporary: Option<tempfile::TempDir>,
    _lock: FolderLock,
}

impl Cluster {
    fn prepare(options: ClusterOptions) -> Result<Self, EmbeddedError> {
        let binaries = match options.binaries.clone() {
            Some(binaries) => binaries,
            None => Binaries::find()?,
        };
        let owner = Owner::needed()?;
        let folder = place::folder(owner, &options.folder)?;
        let lock = FolderLock::take(&folder)?;
        let data = folder.join("postgres");
        place::private_folder(&data, owner)?;
        let sockets = folder.join("socket");
        let (sockets, temporary) = if place::socket_fits(&sockets) {
            place::private_folder(&sockets, owner)?;
            (sockets, None)
        } else {
            place::short_folder(owner, &folder)?
        };
        leftover::stop(&data, STOP_LIMIT);
        let rules = access::write_rules(&folder)?;
        let password = options.tcp_port.map(|_| access::password(&folder)).transpose()?;
        let cluster = Self {
            options,
            binaries,
            owner,
            folder,
            data,
            sockets,
            rules,
            password,
            server: None,
            _temporary: temporary,
            _lock: lock,
        };
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
            // Its own rules let nobody in from elsewhere; ours are in `access`.
            "--auth-local",
            "trust",
            "--auth-host",
            "reject",
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

    /// Starts the server again after [`Cluster::stop`] or [`Cluster::kill`].
    pub async fn start(&mut self) -> Result<(), EmbeddedError> {
        let mut postgres = self.command("postgres");
        let listen = if self.options.tcp_port.is_some() { "127.0.0.1" } else { "" };
        postgres.arg("-D").arg(&self.data).arg("-k").arg(&self.sockets).arg("-p").arg(self.port().to_string());
        postgres.arg("-c").arg(format!("hba_file={}", self.rules.display()));
        for (parameter, value) in [("listen_addresses", listen)].into_iter().chain(self.settings()) {
            postgres.arg("-c").arg(format!("{parameter}={value}"));
        }
        let log = place::own_file(&self.log(), 0o600)?;
        let errors = log.try_clone().map_err(EmbeddedError::io("opening the log"))?;
        // A group of its own: Ctrl-C in the terminal is for us, and we stop the server when everything else has ended.
        postgres.stdout(log).stderr(errors).process_group(0);
        // SIGINT is PostgreSQL's fast shutdown. Where the system cannot do this, the next start stops what was left running.
        end_with_parent(&mut postgres, libc::SIGINT);
        self.server = Some(Server::spawn(postgres).await?);
        self.wait_until_ready().await
    }

    fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.settings.iter().map(|(parameter, value)| (parameter.as_str(), value.as_str()))
    }

    async fn wait_until_ready(&mut self) -> Result<(), EmbeddedError> {
        let started = Instant::now();
        let options = self.connect_options("postgres")?;
        loop {
            match options.postgres.connect(tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    let there = client.query_opt("select from pg_database where datname = $1", &[&NAME]).await;
                    if there.map_err(longhaul_schema::Error::from)?.is_none() {
                        let made = client.batch_execute(&format!("create database {NAME}")).await;
                        made.map_err(longhaul_schema::Error::from)?;
                    }
                    if let Some((password, _)) = &self.password {
                        // Letters and digits only; see `access::password`.
                        let set = client.batch_execute(&format!("alter role {NAME} password '{password}'")).await;
                        set.map_err(longhaul_schema::Error::from)?;
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
            if !self.is_running() {
                return Err(EmbeddedError::NotStarted(self.last_words()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last lines of the log.
    fn last_words(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
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
        let Some(mut server) = self.server.take() else { return };
        server.signal(signal);
        if tokio::time::timeout(STOP_LIMIT, server.ended()).await.is_err() {
            server.signal(libc::SIGQUIT);
            let _ = tokio::time::timeout(STOP_LIMIT, server.ended()).await;
        }
    }

    /// Whether the server runs; it ends by itself when it cannot go on, as when recovery meets a full disk.
    pub fn is_running(&mut self) -> bool {
        if self.server.as_ref().is_some_and(Server::has_ended) {
            self.server = None;
        }
        self.server.is_some()
    }

    /// Completes when the server has ended, whoever ended it; at once when it does not run.
    pub async fn ended(&mut self) {
        if let Some(server) = &mut self.server {
            server.ended().await;
        }
        self.server = None;
    }

    /// Process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// How to connect to one of its databases by its socket, as a URL in which everything is quoted that needs to be.
    pub fn connection_string(&self, database: &str) -> String {
        let sockets = percent_encoded(self.sockets.as_os_str().as_encoded_bytes());
        let database = percent_encoded(database.as_bytes());
        format!("postgres://{NAME}@/{database}?host={sockets}&port={}&sslmode=disable", self.port())
    }

    /// Nothing of it comes from the environment, which may speak of another server.
    fn connect_options(&self, database: &str) -> Result<ConnectOptions, EmbeddedError> {
        Ok(ConnectOptions::parse_with(&self.connection_string(database), |_| None)?)
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
        Ok(Config::new(self.connect_options(NAME)?))
    }

    /// The line that opens psql on its database, for a shell.
    pub fn psql_line(&self) -> String {
        format!("psql -h {} -p {} -U {NAME} {NAME}", quoted(&self.sockets.to_string_lossy()), self.port())
    }

    /// The file with the password for TCP, when it listens there.
    pub fn password_file(&self) -> Option<&Path> {
        self.password.as_ref().map(|(_, file)| file.as_path())
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
            server.signal(libc::SIGINT);
        }
    }
}

/// For a part of a URL: everything that could end it is written as `%…`.
fn percent_encoded(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => char::from(*byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_can_be_a_part_of_a_url() {
        let folder = "/it's \"here\" & there?/100%/ü,=#/socket";
        let url = format!("postgres://u@/d?host={}&port=5432&sslmode=disable", percent_encoded(folder.as_bytes()));
        let options = ConnectOptions::parse_with(&url, |_| None).unwrap();
        assert_eq!(options.postgres.get_hosts(), [tokio_postgres::config::Host::Unix(folder.into())]);
        assert_eq!(options.postgres.get_ports(), [5432]);
    }
}
