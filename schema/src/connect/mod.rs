//! Connections: options, TLS, the pool, notifications.

mod database;
mod listener;
mod options;
mod password_file;
mod tls;

pub use database::{Connection, Database};
pub use listener::Listener;
pub use options::{ConnectOptions, SslMode};
