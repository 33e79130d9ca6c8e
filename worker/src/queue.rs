//! What a worker knows of a queue: its slots, whether to look, whether to be notified.

use crate::claim::{Listening, Wanted};

/// After so many claims in a row that filled all free slots, the worker asks for no notifications: each costs the
/// sender's commit a lock.
const BUSY_AFTER: u32 = 8;

/// What the engine knows of a queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) slots: usize,
    /// Handlers that are running now.
    pub(crate) running: usize,
    /// Whether a claim could find something.
    pub(crate) look: bool,
    /// Whether the worker is notified of new work.
    pub(crate) listening: bool,
    /// Claims in a row that filled all free slots; `None` before the first claim.
    full_claims: Option<u32>,
}

impl Queue {
    pub(crate) fn new(name: &str, slots: usize) -> Self {
        Self { name: name.into(), slots, running: 0, look: true, listening: false, full_claims: None }
    }

    pub(crate) fn free(&self) -> usize {
        // After a recovered claim there may be more steps than slots.
        self.slots.saturating_sub(self.running)
    }

    /// What the next claim shall do about notifications. A queue that ran dry is listened to, and looked at once more after
    /// that, for work that came in between.
    pub(crate) fn listening_change(&self) -> Listening {
        match self.full_claims {
            Some(0) if !self.listening => Listening::Start,
            Some(claims) if self.listening && claims >= BUSY_AFTER => Listening::Stop,
            _ => Listening::Keep,
        }
    }

    /// A claim has asked for `wanted` steps and got `got`.
    pub(crate) fn claimed(&mut self, wanted: &Wanted, got: usize) {
        match wanted.listening {
            Listening::Start => self.listening = true,
            Listening::Stop => self.listening = false,
            Listening::Keep => {}
        }
        let filled = got >= wanted.slots;
        self.full_claims = Some(if filled { self.full_claims.unwrap_or(0).saturating_add(1) } else { 0 });
        self.look = filled || !self.listening;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(queue: &mut Queue, got: usize) {
        let wanted = Wanted { queue: queue.name.clone(), slots: queue.free(), listening: queue.listening_change() };
        queue.claimed(&wanted, got);
    }

    #[test]
    fn a_queue_that_ran_dry_is_listened_to_and_looked_at_once_more() {
        let mut queue = Queue::new("q", 4);
        assert_eq!(queue.listening_change(), Listening::Keep);
        claim(&mut queue, 1);
        assert!(queue.look && queue.listening_change() == Listening::Start);
        claim(&mut queue, 0);
        assert!(!queue.look && queue.listening && queue.listening_change() == Listening::Keep);
    }

    #[test]
    fn a_queue_that_stays_full_is_no_longer_listened_to() {
        let mut queue = Queue::new("q", 4);
        claim(&mut queue, 0);
        claim(&mut queue, 0);
        for _ in 0..BUSY_AFTER {
            assert!(queue.listening);
            claim(&mut queue, 4);
            assert!(queue.look);
        }
        assert_eq!(queue.listening_change(), Listening::Stop);
        claim(&mut queue, 4);
        assert!(!queue.listening);
    }
}
