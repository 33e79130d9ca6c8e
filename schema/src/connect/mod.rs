//! Connections: options, TLS, the pool, notifications.

mod cancelling;
mod connection;
mod database;
mod listener;
mod opening;
mod options;
mod password_file;
mod tls;
mod transaction;

pub use connection::Connection;
pub use database::Database;
pub use listener::Listener;
pub use options::{ConnectOptions, SslMode};
pub use transaction::Transaction;
