//! Connections: options, TLS, the pool, notifications.

mod connection;
mod database;
mod listener;
mod options;
mod password_file;
mod tls;

pub use connection::Connection;
pub use database::Database;
pub use listener::Listener;
pub use options::{ConnectOptions, SslMode};
