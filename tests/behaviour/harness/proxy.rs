//! A proxy between a worker or client and the server, that can lose answers and cut connections.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use longhaul::Config;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::config::Host;
use tokio_util::sync::CancellationToken;

use super::TestDb;

/// Where the server is.
#[derive(Clone)]
enum Target {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// The proxy. It listens on a port of 127.0.0.1 until it is dropped.
pub struct Proxy {
    port: u16,
    swallow: Arc<AtomicBool>,
    cut: Arc<std::sync::Mutex<CancellationToken>>,
    end: CancellationToken,
}

impl Proxy {
    pub async fn start(db: &TestDb) -> Self {
        let postgres = &db.config.connection.postgres;
        let server_port = postgres.get_ports().first().copied().unwrap_or(5432);
        let target = match &postgres.get_hosts()[0] {
            Host::Tcp(name) => Target::Tcp(name.clone(), server_port),
            Host::Unix(folder) => Target::Unix(folder.join(format!(".s.PGSQL.{server_port}"))),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            port: listener.local_addr().expect("address").port(),
            swallow: Arc::default(),
            cut: Arc::default(),
            end: CancellationToken::new(),
        };
        let (swallow, cut, end) = (proxy.swallow.clone(), proxy.cut.clone(), proxy.end.clone());
        tokio::spawn(async move {
            loop {
                let client = tokio::select! {
                    accepted = listener.accept() => accepted.expect("accept").0,
                    () = end.cancelled() => return,
                };
                let token = cut.lock().expect("lock").clone();
                tokio::spawn(connect(client, target.clone(), swallow.clone(), token));
            }
        });
        proxy
    }

    /// The test's settings, but through the proxy.
    pub fn config(&self, db: &TestDb) -> Config {
        let mut config = db.config.clone();
        let mut postgres = tokio_postgres::Config::new();
        let old = &config.connection.postgres;
        postgres.host("127.0.0.1").port(self.port).dbname(&db.name).user(old.get_user().unwrap_or("postgres"));
        if let Some(password) = old.get_password() {
            postgres.password(password);
        }
        postgres.ssl_mode(old.get_ssl_mode()).connect_timeout(std::time::Duration::from_secs(5));
        config.connection.postgres = postgres;
        config
    }

    /// From now on, or no longer, the server's answers are lost.
    pub fn swallow_answers(&self, swallow: bool) {
        self.swallow.store(swallow, Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        let mut token = self.cut.lock().expect("lock");
        token.cancel();
        *token = CancellationToken::new();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
        self.cut();
    }
}

async fn connect(client: TcpStream, target: Target, swallow: Arc<AtomicBool>, cut: CancellationToken) {
    let _ = client.set_nodelay(true);
    match target {
        Target::Tcp(host, port) => {
            if let Ok(server) = TcpStream::connect((host, port)).await {
                relay(client, server, swallow, cut).await;
            }
        }
        Target::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                relay(client, server, swallow, cut).await;
            }
        }
    }
}

async fn relay(
    client: TcpStream,
    server: impl AsyncRead + AsyncWrite,
    swallow: Arc<AtomicBool>,
    cut: CancellationToken,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = tokio::io::split(server);
    let never = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = copy(from_client, to_server, never) => {}
        () = copy(from_server, to_client, swallow) => {}
        () = cut.cancelled() => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, swallow: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) if swallow.load(Ordering::SeqCst) => {}
            Ok(read) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
