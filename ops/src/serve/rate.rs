//! How many requests a second somebody may make.

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota};

/// Requests a second of one caller, when nobody says otherwise.
pub(super) const DEFAULT: NonZeroU32 = NonZeroU32::new(200).expect("not zero");

/// So many callers are remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 10_000;

/// Counts by caller: his token, or his address.
pub(super) struct Rate(DefaultKeyedRateLimiter<String>);

impl Rate {
    /// So many a second, and five times as many at once after a pause.
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(4));
        Self(governor::RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)))
    }

    pub(super) fn allows(&self, caller: &str) -> bool {
        if self.0.len() > REMEMBERED {
            self.0.retain_recent();
        }
        // Only the beginning: it tells callers apart, and nobody fills the memory with long ones.
        self.0.check_key(&caller.chars().take(40).collect()).is_ok()
    }
}
