//! Until when a worker may take its leases for its own, by its own clock: for as long as a lease lives, counted from before the
//! last renewal was sent. A process that was frozen for longer must begin nothing that it still has in hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A moment of the machine's clock that goes on while the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        #[cfg(target_os = "linux")]
        const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes the struct that it is given, and nothing else.
        unsafe { libc::clock_gettime(CLOCK, &mut time) };
        Self(time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000)
    }

    /// How long ago this was.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_millis(Self::now().0.saturating_sub(self.0))
    }
}

/// The leases of one registration. Clones are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct LeaseClock {
    lease: Duration,
    renewed: Arc<AtomicU64>,
}

impl LeaseClock {
    /// Leases that last so long, of a registration that was sent at this moment.
    pub(crate) fn new(lease: Duration, sent: Moment) -> Self {
        Self { lease, renewed: Arc::new(AtomicU64::new(sent.0)) }
    }

    /// A renewal that was sent at this moment has arrived.
    pub(crate) fn renewed(&self, sent: Moment) {
        self.renewed.fetch_max(sent.0, Relaxed);
    }

    /// Whether they are certainly still this worker's, but for what the database was told by others.
    pub(crate) fn holds(&self) -> bool {
        Moment(self.renewed.load(Relaxed)).elapsed() < self.lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_counted_from_when_the_last_renewal_was_sent() {
        let now = Moment::now();
        let lease = Duration::from_secs(60);
        let clock = LeaseClock::new(lease, Moment(now.0.saturating_sub(61_000)));
        assert!(!clock.holds(), "the registration was sent longer ago than that");
        clock.clone().renewed(Moment(now.0.saturating_sub(1_000)));
        assert!(clock.holds());
        clock.renewed(Moment(now.0.saturating_sub(61_000)));
        assert!(clock.holds(), "an older answer that comes late takes nothing away");
    }
}
