//! The network between workers and server: a TCP proxy that cuts, loses answers, and is slow.

use std::{
    net::SocketAddr,
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

/// What is wrong with the network at the moment.
#[derive(Debug, Default)]
struct Trouble {
    answers_are_lost: AtomicBool,
    delay_ms: AtomicU64,
    cut: Mutex<CancellationToken>,
}

/// The proxy; it ends with the process.
pub struct Network {
    address: SocketAddr,
    trouble: Arc<Trouble>,
}

impl Network {
    /// Listens on a port of this machine, and passes everything on to the server of a configuration.
    pub async fn start(config: &Config) -> std::io::Result<Self> {
        let postgres = &config.connection.postgres;
        let port = postgres.get_ports().first().copied().unwrap_or(5432);
        let socket = match postgres.get_hosts().first() {
            Some(Host::Unix(folder)) => folder.join(format!(".s.PGSQL.{port}")),
            other => return Err(std::io::Error::other(format!("the private server has a socket, not {other:?}"))),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let network = Self { address: listener.local_addr()?, trouble: Arc::default() };
        let trouble = network.trouble.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, socket.clone(), trouble.clone()));
            }
        });
        Ok(network)
    }

    /// How a worker reaches the server through it.
    pub fn url(&self, config: &Config) -> String {
        let postgres = &config.connection.postgres;
        format!(
            "postgres://{}@{}/{}?sslmode=disable",
            postgres.get_user().unwrap_or("postgres"),
            self.address,
            postgres.get_dbname().unwrap_or("postgres")
        )
    }

    pub fn cut(&self) {
        let mut cut = self.trouble.cut.lock().expect("no panics here");
        std::mem::take(&mut *cut).cancel();
    }

    pub fn lose_answers(&self, lose: bool) {
        self.trouble.answers_are_lost.store(lose, Ordering::SeqCst);
    }

    /// Each packet takes so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.trouble.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
}

async fn relay(client: TcpStream, socket: PathBuf, trouble: Arc<Trouble>) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let cut = trouble.cut.lock().expect("no panics here").clone();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, &trouble, false) => {}
        () = copy(from_server, to_client, &trouble, true) => {}
        () = cut.cancelled() => {}
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
