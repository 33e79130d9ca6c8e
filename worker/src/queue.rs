//! What a worker knows of a queue: its slots, whether to look, whether to be notified.

use longhaul_schema::calls::QueueFigure;

use crate::claim::{Listening, Wanted};

/// How many steps of a queue run at once: a number, or as many as there is demand for, between a floor and a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// As few as this when there is nothing to do.
    pub floor: usize,
    /// Never more than this.
    pub ceiling: usize,
}

impl Slots {
    /// Between a floor and a ceiling. A claim that fills all slots doubles them while this process has processor time to
    /// spare; slots that stay empty are given up by halves.
    pub fn between(floor: usize, ceiling: usize) -> Self {
        Self { floor, ceiling }
    }
}

impl From<usize> for Slots {
    fn from(slots: usize) -> Self {
        Self { floor: slots, ceiling: slots }
    }
}

/// What the engine knows of a queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    limits: Slots,
    /// As many as may run now.
    pub(crate) slots: usize,
    /// Claimed, completed and failed so far.
    pub(crate) claimed: i64,
    pub(crate) completed: i64,
    pub(crate) failed: i64,
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
    pub(crate) fn new(name: &str, slots: impl Into<Slots>) -> Self {
        let limits = slots.into();
        Self {
            name: name.into(),
            limits,
            slots: limits.floor,
            claimed: 0,
            completed: 0,
            failed: 0,
            running: 0,
            look: true,
            listening: false,
            full_claims: None,
        }
    }

    /// Adapts the slots to a claim that asked for `wanted` and got `got`: more while there is demand and processor time to
    /// spare (`busy` below 0.9), fewer while most are empty.
    pub(crate) fn scale(&mut self, wanted: usize, got: usize, busy: f64) {
        if wanted > 0 && got >= wanted && busy < 0.9 {
            self.slots = (self.slots * 2).min(self.limits.ceiling);
        } else if got == 0 && self.running * 2 < self.slots {
            self.slots = (self.slots / 2).max(self.limits.floor);
        }
    }

    /// What is said of it.
    pub(crate) fn figure(&self) -> QueueFigure {
        QueueFigure {
            running: i32::try_from(self.running).unwrap_or(i32::MAX),
            slots: i32::try_from(self.slots).unwrap_or(i32::MAX),
            claimed: self.claimed,
            completed: self.completed,
            failed: self.failed,
        }
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
    fn slots_follow_demand_between_floor_and_ceiling() {
        let mut queue = Queue::new("q", Slots::between(2, 20));
        let mut history = Vec::new();
        for (wanted, got, busy) in [(2, 2, 0.1), (2, 2, 0.1), (4, 4, 0.95), (4, 4, 0.2), (8, 8, 0.2), (8, 8, 0.2)] {
            queue.scale(wanted, got, busy);
            history.push(queue.slots);
        }
        assert_eq!(history, [4, 8, 8, 16, 20, 20], "not while the processor is busy");
        queue.running = 3;
        for expected in [10, 5, 5] {
            queue.scale(10, 0, 0.1);
            assert_eq!(queue.slots, expected, "never below twice of what runs");
        }
        queue.running = 0;
        queue.scale(5, 0, 0.1);
        queue.scale(5, 0, 0.1);
        assert_eq!(queue.slots, 2);
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
