//! What a worker did in its life.

/// What a worker did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Round trips to the queues.
    pub claims: u64,
    /// Steps claimed.
    pub claimed: u64,
    /// Outcomes stored.
    pub settled: u64,
    /// Steps lost to other workers.
    pub lost: u64,
    /// Steps that were stopped because their runs had ended.
    pub cancelled: u64,
    /// It ended because somebody drained it (`drain_worker`), and not because it was told to stop.
    pub drained: bool,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.claims += other.claims;
        self.claimed += other.claimed;
        self.settled += other.settled;
        self.lost += other.lost;
        self.cancelled += other.cancelled;
        self.drained |= other.drained;
    }
}
