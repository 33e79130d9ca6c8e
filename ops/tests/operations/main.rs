//! The `longhaul` program and its built-in handlers, as operators use them.

mod command_handler;
mod commands;
mod http_handler;
mod server;
mod up;
