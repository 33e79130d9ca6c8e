//! The `longhaul` program and what operators use.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the commands of the program |
//! | [`embedded`] | a private PostgreSQL server |
//! | [`flow_file`] | flows in YAML or JSON files, and their JSON Schema |
//! | [`handlers`] | built-in handlers: `command` runs programs, `http` makes calls |
//! | `metrics` | what Prometheus is told |
//! | [`serve`] | the HTTP API and the console |

// Everything that is shown goes through `cli::terminal`, which keeps escapes away from terminals.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod embedded;
pub mod flow_file;
pub mod handlers;
mod metrics;
mod parent;
mod secrets;
pub mod serve;
mod shell;
mod similar;
