//! Steering runs.

use uuid::Uuid;

use super::{Calls, Executor};
use crate::Result;

impl<E: Executor> Calls<E> {
    /// Stops a live run of a tenant; refused when it has ended.
    pub async fn stop_run(&self, tenant: &str, id: Uuid) -> Result<()> {
        self.run("select longhaul.stop_run($1, $2)", &[&tenant, &id]).await
    }
}
