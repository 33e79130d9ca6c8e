//! A worker: from its settings to its end.

use std::sync::Arc;

use longhaul_schema::{Database, Error};

use crate::{Observer, Registry, Summary, chores, registration, settings::Settings};

/// A process's share in the work: claims steps and does them until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    pub(crate) database: Database,
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Settings,
    pub(crate) chores: bool,
}

impl Worker {
    /// Looks on at this worker: its status, and the outcomes of its steps.
    pub fn observer(&self) -> Observer {
        self.settings.observed.observer()
    }

    /// Works until `stop` completes, then finishes what is running (see [`WorkerBuilder::grace`](crate::WorkerBuilder::grace)), hands the rest back with no
    /// attempt consumed, and deregisters.
    ///
    /// Ends as well when somebody drains it, once it has finished what it has: [`Summary::drained`].
    ///
    /// While the database cannot be reached it waits for it. Fails only when Longhaul is not installed there, the
    /// database refuses this user, or the worker breaks down again and again.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Summary, Error> {
        // Ends with this future.
        let _chores = if self.chores { Some(chores::start(self.database.config())?) } else { None };
        registration::run(self.database, self.registry, self.settings, stop).await
    }
}
