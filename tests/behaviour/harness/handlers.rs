//! Handlers that many tests use.

use longhaul::{StepContext, StepError};
use serde_json::Value;

/// Does nothing with any input.
pub async fn nothing(_: StepContext, _: Value) -> Result<(), StepError> {
    Ok(())
}
