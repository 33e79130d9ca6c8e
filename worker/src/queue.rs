//! What a worker knows of a queue: its slots, whether to look, whether to be notified.

use crate::claim::{Listening, Wanted};

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

    /// What the next call shall ask for, if there is anything to ask.
    ///
    /// A queue that ran dry is listened to, and looked at once more after that, for work that came in between. A queue whose
    /// slots are full is not: a notification would be lost on this worker while another one could act on it.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let free = self.free();
        let listening = match self.full_claims {
            Some(0) if !self.listening && free > 0 => Listening::Start,
            Some(claims) if self.listening && (claims > 0 || free == 0) => Listening::Stop,
            _ => Listening::Keep,
        };
        let ask = (self.look && free > 0) || listening == Listening::Stop;
        ask.then(|| Wanted { queue: self.name.clone(), slots: if self.look { free } else { 0 }, listening })
    }

    /// A call has asked for `wanted` steps and got `got`.
    pub(crate) fn claimed(&mut self, wanted: &Wanted, got: usize) {
        match wanted.listening {
            Listening::Start => self.listening = true,
            Listening::Stop => self.listening = false,
            Listening::Keep => {}
        }
        if wanted.slots == 0 {
            // Only the notifications were stopped: there is to be a look as soon as a slot is free.
            self.look = true;
            return;
        }
        let filled = got >= wanted.slots;
        self.full_claims = Some(if filled { self.full_claims.unwrap_or(0).saturating_add(1) } else { 0 });
        self.look = filled || !self.listening;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One call, and the steps that it brought running.
    fn claim(queue: &mut Queue, got: usize) -> Wanted {
        let wanted = queue.wanted().expect("there is something to ask");
        queue.claimed(&wanted, got);
        queue.running += got;
        wanted
    }

    #[test]
    fn a_queue_that_ran_dry_is_listened_to_and_looked_at_once_more() {
        let mut queue = Queue::new("q", 4);
        assert_eq!(claim(&mut queue, 1).listening, Listening::Keep);
        assert_eq!(claim(&mut queue, 0).listening, Listening::Start);
        assert!(queue.wanted().is_none(), "now it waits to be told");
        queue.look = true;
        assert_eq!(claim(&mut queue, 0).listening, Listening::Keep);
    }

    #[test]
    fn a_queue_whose_slots_are_full_is_not_listened_to() {
        let mut queue = Queue::new("q", 2);
        claim(&mut queue, 0);
        claim(&mut queue, 0);
        queue.look = true;
        claim(&mut queue, 2);
        let wanted = claim(&mut queue, 0);
        assert_eq!((wanted.slots, wanted.listening), (0, Listening::Stop));
        assert!(queue.wanted().is_none(), "no slot is free");
        queue.running = 1;
        assert_eq!(queue.wanted().map(|w| w.slots), Some(1), "it looks by itself");
        assert_eq!(claim(&mut queue, 0).listening, Listening::Keep);
        assert_eq!(claim(&mut queue, 0).listening, Listening::Start);
    }
}
