//! Connections: options, TLS, the pool, notifications.

mod answers;
mod cancelling;
mod certificate;
mod config;
mod connection;
mod database;
mod demands;
mod environment;
mod executor;
mod grammar;
mod listener;
mod opening;
mod options;
mod password_file;
mod ssl_mode;
mod tls;
mod transaction;
mod written;

pub use config::Config;
pub use connection::Connection;
pub use database::Database;
pub use executor::Executor;
pub use listener::Listener;
pub use options::ConnectOptions;
pub use ssl_mode::{SslMode, TlsVersions};
pub use transaction::Transaction;
