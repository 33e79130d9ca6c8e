//! Built-in handlers, so that a pipeline of programs and HTTP calls needs no Rust. Their settings stand in a step's `with`.

pub mod command;
pub mod http;
mod template;

use longhaul_schema::Error;
use longhaul_worker::Registry;

/// What the built-in handlers may do on this worker.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Programs that `command` may run, as they are named in flows; none by default.
    pub programs: Vec<String>,
    /// Whether `http` may call private, loopback and link-local addresses.
    pub private_addresses: bool,
}

/// A registry of the built-in handlers: `http`, and `command` when any program is allowed.
pub fn built_in(permissions: &Permissions) -> Result<Registry, Error> {
    let mut registry = Registry::new();
    if !permissions.programs.is_empty() {
        command::register(&mut registry, permissions.programs.clone())?;
    }
    http::register(&mut registry, permissions.private_addresses)?;
    Ok(registry)
}
