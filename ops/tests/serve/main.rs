//! The HTTP API, called over HTTP.

#[path = "../operations/server.rs"]
#[allow(dead_code)]
mod server;

mod acting;
mod api;
mod bulk;
mod callers;
mod events;
mod guarding;
mod metrics;
mod once;
mod reading;
