//! The `longhaul` program and what operators use.

#[cfg(unix)]
pub mod embedded;
