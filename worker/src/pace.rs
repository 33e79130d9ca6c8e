//! How many steps to claim ahead of free slots.

use std::time::{Duration, Instant};

/// Steps are claimed ahead for as long as this: longer than a claim takes, too short for another worker to miss them.
const AHEAD: Duration = Duration::from_millis(10);

/// Most steps that are claimed ahead.
const MOST_AHEAD: usize = 1000;

/// How fast the slots of a queue come free. Handlers that take long give nothing to claim ahead for.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    pub(crate) ended: usize,
    per_second: f64,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, ended: 0, per_second: 0.0 }
    }

    /// A claim has come back: what was seen since the last one counts as much as all before.
    pub(crate) fn measure(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.since).max(Duration::from_millis(1));
        self.per_second = (self.per_second + self.ended as f64 / elapsed.as_secs_f64()) / 2.0;
        self.ended = 0;
        self.since = now;
    }

    pub(crate) fn ahead(&self) -> usize {
        ((self.per_second * AHEAD.as_secs_f64()) as usize).min(MOST_AHEAD)
    }
}
