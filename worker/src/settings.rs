//! Settings of a worker, as its tasks read them.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use longhaul_schema::calls::AttemptKey;

use crate::{Slots, middleware::Around, observe::Observed, state::States};

/// Everything that a registration needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) queues: Vec<(String, Slots)>,
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
    pub(crate) poll: Duration,
    pub(crate) grace: Duration,
    pub(crate) max_payload: usize,
    pub(crate) max_history: usize,
    pub(crate) around: Arc<Around>,
    pub(crate) states: Arc<States>,
    pub(crate) flush: Duration,
    pub(crate) at_shutdown: Option<ShutdownHook>,
    pub(crate) observed: Observed,
}

impl Settings {
    /// Most steps that can run at once.
    pub(crate) fn most_slots(&self) -> usize {
        self.queues.iter().map(|(_, slots)| slots.ceiling).sum()
    }
}

/// Called for each run in flight when the worker is told to stop.
#[derive(Clone)]
pub(crate) struct ShutdownHook(pub(crate) Arc<dyn Fn(AttemptKey) -> BoxFuture<'static, ()> + Send + Sync>);

impl std::fmt::Debug for ShutdownHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShutdownHook")
    }
}
