//! The `longhaul` program and its built-in handlers, as operators use them.

mod command_handler;
mod commands;
mod deployment;
mod extremes;
mod flow_commands;
mod flow_files;
mod http_handler;
mod lines;
mod many_runs;
mod output;
mod overseeing;
mod plain_words;
mod screen;
mod server;
mod steering;
mod supervise;
mod terminal_views;
mod up;
mod waiting;
mod watching;
