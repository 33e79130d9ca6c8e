//! Waiting longer and longer, with jitter, while the database is away.

use std::time::Duration;

use rand::Rng;

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): each wait is a random part of
/// a ceiling that doubles, so that a fleet that lost the same server does not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
    cap: Duration,
}

impl Backoff {
    /// Starts with waits of up to `first`, and never waits longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { ceiling: first.min(cap), cap }
    }

    /// How long to wait now; the next answer may be twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(rand::rng().random_range(0.1..=1.0));
        self.ceiling = (self.ceiling * 2).min(self.cap);
        wait
    }

    /// Waits as long as [`Backoff::next_wait`] says.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

impl Default for Backoff {
    /// From 50 ms up to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(80));
        let waits: Vec<_> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= Duration::from_millis(10));
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(80)));
        assert!(waits.iter().any(|w| *w > Duration::from_millis(10)));
    }
}
