//! Built-in handlers, so that a pipeline of programs and HTTP calls needs no Rust. Their settings stand in a step's `with`.

mod addresses;
mod check;
pub mod command;
mod group;
pub mod http;
mod programs;
mod template;
mod variables;

use std::time::Duration;

use longhaul_schema::Error;
use longhaul_worker::{Registry, StepError};

pub use check::{Problem, check};

/// What the built-in handlers may do on this worker. Nothing, by default, but calls of public addresses.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Programs that `command` may run, as they are named in flows. They are looked for once, when the worker starts.
    pub programs: Vec<String>,
    /// Names of environment variables that flows may set for programs. Those by which a flow could choose what a program does
    /// (`PATH`, `LD_PRELOAD` and many more) are refused.
    pub variables: Vec<String>,
    /// Names of the worker's own environment variables that programs are given, beside `PATH`, `HOME`, `LANG`, `TZ` and the like.
    pub passed_variables: Vec<String>,
    /// Whether `http` may call private, loopback and link-local addresses.
    pub private_addresses: bool,
}

/// A registry of the built-in handlers: `http`, and `command` when any program is allowed.
pub fn built_in(permissions: &Permissions) -> Result<Registry, Error> {
    let mut registry = Registry::new();
    // A mistake in what programs may be given is one also as long as no program is allowed.
    variables::Variables::new(&permissions.passed_variables, &permissions.variables)?;
    if !permissions.programs.is_empty() {
        command::register(&mut registry, permissions)?;
    }
    http::register(&mut registry, permissions.private_addresses)?;
    Ok(registry)
}

/// Bounds an attempt when its step has no timeout of its own.
async fn limited<T>(
    timeout: Option<Duration>,
    limit: Duration,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    if timeout.is_some() {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(StepError::retry(format!(
            "the attempt took longer than {limit:?}, the limit of a step without a `timeout` of its own"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_variables_are_refused_also_when_no_program_is_allowed() {
        for (name, refused) in [("LD_PRELOAD", true), ("PATH", true), ("COLOUR", false)] {
            let permissions = Permissions { variables: vec![name.to_owned()], ..Permissions::default() };
            assert_eq!(built_in(&permissions).is_err(), refused, "{name}");
        }
    }

    #[tokio::test]
    async fn only_a_step_with_a_timeout_of_its_own_may_take_longer_than_the_limit() {
        const LIMIT: Duration = Duration::from_millis(1);
        let never = std::future::pending::<Result<(), StepError>>();
        let error = limited(None, LIMIT, never).await.unwrap_err().to_string();
        assert!(error.contains("took longer than 1ms"), "{error}");
        let longer = async {
            tokio::time::sleep(LIMIT * 20).await;
            Ok(())
        };
        limited(Some(Duration::from_secs(3600)), LIMIT, longer).await.unwrap();
    }
}
