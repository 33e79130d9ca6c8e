//! The network between clients and the server: a TCP proxy that cuts connections, loses answers, and is slow.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use longhaul::Config;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::config::Host;
use tokio_util::sync::CancellationToken;

/// Where the server is.
#[derive(Clone)]
enum Target {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// What is wrong with the network at the moment.
#[derive(Debug, Default)]
struct Trouble {
    answers_are_lost: AtomicBool,
    delay_ms: AtomicU64,
    cut: Mutex<CancellationToken>,
}

/// The proxy. It listens on a port of 127.0.0.1 until it is dropped.
pub struct Network {
    port: u16,
    trouble: Arc<Trouble>,
    end: CancellationToken,
}

impl Network {
    /// Passes everything on to the server of a configuration.
    pub async fn start(config: &Config) -> io::Result<Self> {
        let postgres = &config.connection.postgres;
        let port = postgres.get_ports().first().copied().unwrap_or(5432);
        let target = match postgres.get_hosts().first() {
            Some(Host::Unix(folder)) => Target::Unix(folder.join(format!(".s.PGSQL.{port}"))),
            Some(Host::Tcp(name)) => Target::Tcp(name.clone(), port),
            None => return Err(io::Error::other("the configuration names no host")),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let network =
            Self { port: listener.local_addr()?.port(), trouble: Arc::default(), end: CancellationToken::new() };
        let (trouble, end) = (network.trouble.clone(), network.end.clone());
        tokio::spawn(end.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target.clone(), trouble.clone()));
            }
        }));
        Ok(network)
    }

    /// How the server is reached through it.
    pub fn config(&self, config: &Config) -> Config {
        let mut config = config.clone();
        let old = &config.connection.postgres;
        let mut postgres = tokio_postgres::Config::new();
        postgres.host("127.0.0.1").port(self.port).user(old.get_user().unwrap_or("postgres"));
        postgres.dbname(old.get_dbname().unwrap_or("postgres"));
        if let Some(password) = old.get_password() {
            postgres.password(password);
        }
        postgres.ssl_mode(old.get_ssl_mode()).connect_timeout(Duration::from_secs(5));
        config.connection.postgres = postgres;
        config
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        std::mem::take(&mut *self.trouble.cut.lock().expect("no panics here")).cancel();
    }

    /// From now on, or no longer, calls arrive and their answers are lost.
    pub fn lose_answers(&self, lose: bool) {
        self.trouble.answers_are_lost.store(lose, Ordering::SeqCst);
    }

    /// Each packet takes so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.trouble.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end.cancel();
        self.cut();
    }
}

async fn connect(client: TcpStream, target: Target, trouble: Arc<Trouble>) {
    let _ = client.set_nodelay(true);
    let cut = trouble.cut.lock().expect("no panics here").clone();
    match target {
        Target::Tcp(host, port) => {
            if let Ok(server) = TcpStream::connect((host, port)).await {
                cut.run_until_cancelled(relay(client, server, &trouble)).await;
            }
        }
        Target::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                cut.run_until_cancelled(relay(client, server, &trouble)).await;
            }
        }
    }
}

async fn relay(client: TcpStream, server: impl AsyncRead + AsyncWrite, trouble: &Trouble) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        () = copy(from_client, to_server, trouble, false) => {}
        () = copy(from_server, to_client, trouble, true) => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, trouble: &Trouble, answers: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let delay = trouble.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if answers && trouble.answers_are_lost.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
