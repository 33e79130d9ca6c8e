//! The HTTP API and the console, served from this program. In the order in which a request passes:
//!
//! | module | what it does |
//! | --- | --- |
//! | `guard` | refuses requests that another site's page may have sent |
//! | `caller`, `secret`, `rate` | who asks, for which tenant, and what he may do; tokens; how many requests a second |
//! | `once` | requests with an idempotency key |
//! | `extract` | bodies, queries and paths; what is wrong with them is a problem |
//! | `routes` | the operations, a file for each subject; the OpenAPI document is made from them |
//! | `act` | the record of what operators do |
//! | `openapi` | what all operations have in common in the description |
//! | `page` | limits and cursors of lists |
//! | `events` | live changes, as server-sent events |
//! | `problem` | errors as `application/problem+json` |
//! | `requests` | what this server measures of itself, and `/metrics` |
//! | `assets` | the files of the console |

mod act;
mod app;
mod assets;
mod caller;
mod events;
mod extract;
mod guard;
mod once;
mod openapi;
mod page;
mod problem;
mod rate;
mod requests;
mod routes;
pub(crate) mod secret;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use longhaul_scheduler::Client;
use longhaul_schema::{Config, Error};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use app::App;

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Address and port to listen on; port 0 takes any.
    pub listen: SocketAddr,
    /// Names besides those of this machine under which it may be called when it listens on a loopback address.
    pub hosts: Vec<String>,
    /// Requests a second of one caller.
    pub rate: NonZeroU32,
    /// Take the files of the console from this folder instead of those that are built in: for work on the console.
    pub console: Option<PathBuf>,
}

impl ServeOptions {
    /// On this address.
    pub fn on(listen: SocketAddr) -> Self {
        Self { listen, hosts: vec![], rate: rate::DEFAULT, console: None }
    }
}

/// Why it cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The database does not answer, or not as it should.
    #[error(transparent)]
    Database(#[from] Error),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// It would not be safe.
    #[error("{0}")]
    Unsafe(String),
}

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
}

/// How long answers that are under way may take when the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

impl Server {
    /// Connects to the database, and listens.
    pub async fn bind(config: &Config, options: ServeOptions) -> Result<Self, ServeError> {
        let client = Client::connect(config).await?;
        let closed = client.database().retrying(|calls| async move { calls.tokens_are_used().await }).await?;
        if !options.listen.ip().is_loopback() && !closed {
            return Err(ServeError::Unsafe(format!(
                "{} can be reached from other machines, and there is no token that tells who asks: make one with \
                 `longhaul token create`, or listen on 127.0.0.1",
                options.listen
            )));
        }
        let failed = |error| ServeError::Listen { address: options.listen, error };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let app = App::new(client, address, options);
        Ok(Self { listener, address, app })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the console is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers until told to stop. Answers that are under way are finished, for a few seconds.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let (address, stopping) = (self.address, self.app.stopping().clone());
        let service = routes::all(self.app).into_make_service_with_connect_info::<SocketAddr>();
        let stopped = stopping.clone();
        let serving = axum::serve(self.listener, service)
            .with_graceful_shutdown(async move { stopped.cancelled().await })
            .into_future();
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended.map_err(|error| ServeError::Listen { address, error }),
            () = stop => stopping.cancel(),
        }
        // Whoever does not read his answer keeps nobody.
        let _ = tokio::time::timeout(GRACE, serving).await;
        Ok(())
    }
}

/// For streams that end with the server.
type Stopping = CancellationToken;
