//! The `longhaul` program and its built-in handlers, as operators use them.

mod command_handler;
mod commands;
mod extremes;
mod flow_commands;
mod flow_files;
mod http_handler;
mod lines;
mod output;
mod overseeing;
mod plain_words;
mod server;
mod steering;
mod supervise;
mod up;
mod waiting;
