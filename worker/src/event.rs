//! What the engine of a worker is told.

use longhaul_schema::calls::{AttemptKey, RefusedAttempt};
use tokio::sync::oneshot;

/// A message to the engine.
#[derive(Debug)]
pub(crate) enum Event {
    /// There may be work.
    Wake,
    /// Notifications come again; some may have been missed, and the server may have forgotten the request for them.
    Reconnected,
    /// Which attempts does this worker own?
    ListOwned(oneshot::Sender<Vec<AttemptKey>>),
    /// These are no longer its own.
    LeasesLost(Vec<RefusedAttempt>),
    /// Somebody wants this worker to claim no more, and to end when it has done what it has.
    Draining,
    /// The database could not be asked for as long as a lease lives.
    LeaseOverdue,
    /// The database has given this worker up.
    WorkerLost,
    /// What became of these attempts; `lost` and `cancelled` are those whose outcomes were not stored.
    Settled(Vec<(AttemptKey, &'static str)>),
}
