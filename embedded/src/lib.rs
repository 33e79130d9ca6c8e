//! A private PostgreSQL server: for `longhaul up`, for the quickstart, for tests and benchmarks.
//!
//! ```no_run
//! # async fn run() -> Result<(), longhaul_embedded::EmbeddedError> {
//! use longhaul_embedded::ClusterOptions;
//!
//! let folder = tempfile::tempdir().expect("a folder");
//! let mut server = ClusterOptions::new(folder.path()).start().await?;
//! let config = server.config()?;
//! // … connect with this configuration …
//! server.stop().await;
//! # Ok(()) }
//! ```
//!
//! It listens on a Unix socket in a folder of its own, so that nobody else on the machine reaches it, runs as an ordinary user
//! even when root starts it, and ends with the process that started it.

mod access;
mod binaries;
mod cluster;
mod leftover;
mod lock;
mod owner;
pub mod parent;
mod place;
mod server;
mod shared;
pub mod shell;

pub use binaries::Binaries;
pub use cluster::{Cluster, ClusterOptions};
pub use shared::{shared_for_tests, temporary_folder};

/// What can go wrong with a private server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No PostgreSQL server programs were found.
    #[error(
        "no PostgreSQL server programs (initdb, postgres) were found in {0}; install PostgreSQL 14 or newer, or run ops/install-postgres, or name their folder in LONGHAUL_PG_BIN"
    )]
    NoBinaries(String),
    /// The programs are too old or did not say their version.
    #[error("{0}")]
    Unsupported(String),
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which program.
        program: String,
        /// What it said.
        output: String,
    },
    /// The server did not come up, or ended.
    #[error("the server did not start: {0}")]
    NotStarted(String),
    /// Another process uses the folder.
    #[error("{folder} is in use by process {pid}; stop that one first, or use another folder")]
    Busy {
        /// Which folder.
        folder: String,
        /// By whom.
        pid: String,
    },
    /// Files or processes could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The server runs, but does not do what is asked.
    #[error(transparent)]
    Database(#[from] longhaul_schema::Error),
}

impl EmbeddedError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
