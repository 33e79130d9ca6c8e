//! Errors of the program, with their exit codes.

use std::process::ExitCode;

use longhaul_schema::Error;

use super::terminal;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Wrong usage or input.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// With what it means here.
    pub(super) fn explained(self, meaning: &str) -> Self {
        Self::new(self.code, format!("{}; {meaning}", self.message))
    }

    pub(super) fn report(self, json: bool) -> ExitCode {
        if json {
            terminal::tell_json(&serde_json::json!({ "error": self.message, "exit_code": self.code }));
        } else {
            terminal::tell(&format!("error: {}", self.message));
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Invalid(_) => 2,
            Error::NotFound(_) => 3,
            Error::Refused(_) | Error::Conflict(_) => 4,
            Error::Unavailable(_) => 5,
            _ => 1,
        };
        Self::new(code, error.to_string())
    }
}

impl From<crate::flow_file::FlowFileError> for Failure {
    fn from(error: crate::flow_file::FlowFileError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<crate::embedded::EmbeddedError> for Failure {
    fn from(error: crate::embedded::EmbeddedError) -> Self {
        let code = if matches!(error, crate::embedded::EmbeddedError::Busy { .. }) { 4 } else { 1 };
        Self::new(code, error.to_string())
    }
}

impl From<crate::serve::ServeError> for Failure {
    fn from(error: crate::serve::ServeError) -> Self {
        match error {
            crate::serve::ServeError::Database(error) => error.into(),
            crate::serve::ServeError::Unsafe(_) => Self::usage(error.to_string()),
            other => Self::new(1, other.to_string()),
        }
    }
}
