//! What a worker knows of a queue: its slots, whether to look, whether to be notified.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use longhaul_schema::calls::{ClaimedStep, FlowStep, QueueFigure};

use crate::{
    Slots,
    claim::{Listening, Wanted},
    pace::Pace,
};

/// How long a step may wait for a slot while no handler ends. Then it goes back: the handlers have become slow.
const PATIENCE: Duration = Duration::from_millis(500);

/// A claimed step, and its definition.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) claimed: ClaimedStep,
    pub(crate) step: Arc<FlowStep>,
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
    /// Claimed, and waiting for a slot, since when.
    waiting: VecDeque<(Instant, Ready)>,
    pace: Pace,
    last_ended: Instant,
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
            waiting: VecDeque::new(),
            pace: Pace::new(Instant::now()),
            last_ended: Instant::now(),
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

    /// A step was claimed; it begins when a slot is free.
    pub(crate) fn push(&mut self, step: Ready) {
        self.waiting.push_back((Instant::now(), step));
    }

    /// The next step to begin, if a slot is free for it.
    pub(crate) fn pop(&mut self) -> Option<Ready> {
        if self.free() == 0 {
            return None;
        }
        self.waiting.pop_front().map(|(_, step)| step)
    }

    /// Takes out the steps that have waited for a slot for too long, or all of them.
    pub(crate) fn give_up_waiting(&mut self, all: bool) -> Vec<Ready> {
        let now = Instant::now();
        let late = self.waiting.iter().take_while(|(since, _)| all || self.patience_for(*since) <= now).count();
        if late > 0 {
            self.pace = Pace::new(now);
        }
        self.waiting.drain(..late).map(|(_, step)| step).collect()
    }

    /// When the step that has waited for a slot for longest is given up.
    pub(crate) fn patience_ends(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| self.patience_for(*since))
    }

    /// As long as handlers end, it is only a matter of time.
    fn patience_for(&self, since: Instant) -> Instant {
        since.max(self.last_ended) + PATIENCE
    }

    /// A handler has ended.
    pub(crate) fn ended(&mut self) {
        self.running -= 1;
        self.pace.ended += 1;
        self.last_ended = Instant::now();
    }

    /// What the next call shall ask for, if there is anything to ask.
    ///
    /// A queue that ran dry is listened to, and looked at once more after that, for work that came in between. A queue whose
    /// slots are full is not: a notification would be lost on this worker while another one could act on it.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let free = self.free();
        let ahead = self.pace.ahead();
        // Half of what may be claimed ahead is still there: the next claim can wait, and will be a larger one.
        let claim = self.look && free + ahead > self.waiting.len() + ahead / 2;
        let slots = (free + ahead).saturating_sub(self.waiting.len());
        let listening = match self.full_claims {
            Some(0) if !self.listening && free > 0 => Listening::Start,
            Some(claims) if self.listening && (claims > 0 || free == 0) => Listening::Stop,
            _ => Listening::Keep,
        };
        let ask = claim || listening == Listening::Stop;
        ask.then(|| Wanted { queue: self.name.clone(), slots: if claim { slots } else { 0 }, listening })
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
        self.pace.measure(Instant::now());
        let filled = got >= wanted.slots;
        self.full_claims = Some(if filled { self.full_claims.unwrap_or(0).saturating_add(1) } else { 0 });
        self.look = filled || !self.listening;
    }
}

#[cfg(test)]
mod tests {
    use longhaul_schema::{
        Payload,
        calls::{AttemptKey, StepKey},
    };
    use uuid::Uuid;

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

    fn ready(seq: i32) -> Ready {
        let step = StepKey { run_id: Uuid::nil(), seq };
        let claimed = ClaimedStep {
            key: AttemptKey { step, attempt: 1 },
            failures: 0,
            flow_id: 1,
            definition: seq,
            queue: "q".into(),
            input: Payload::new(&1).unwrap(),
        };
        let step = FlowStep {
            seq,
            flow: "f".into(),
            version: 1,
            name: "s".into(),
            handler: "h".into(),
            max_attempts: 1,
            timeout: None,
            parameters: None,
            checkpoints: false,
        };
        Ready { claimed, step: Arc::new(step) }
    }

    #[test]
    fn steps_are_claimed_ahead_while_handlers_are_quick() {
        let mut queue = Queue::new("q", 4);
        for _ in 0..20 {
            let wanted = queue.wanted().expect("there is something to ask");
            assert!(wanted.slots >= 4);
            queue.claimed(&wanted, wanted.slots);
            queue.running = 4;
            std::thread::sleep(Duration::from_millis(2));
            (0..4).for_each(|_| queue.ended());
        }
        let wanted = queue.wanted().expect("there is something to ask");
        assert!(
            (5..=24).contains(&wanted.slots),
            "2,000 a second or less: at most 20 ahead of 4 slots, not {}",
            wanted.slots
        );
        (0..wanted.slots).for_each(|seq| queue.push(ready(seq as i32)));
        assert_eq!(queue.pop().map(|ready| ready.claimed.key.step.seq), Some(0), "in their order");
        queue.running = 4;
        assert!(queue.pop().is_none(), "no slot is free");
        assert!(queue.wanted().is_none(), "enough is there");
        assert!(queue.give_up_waiting(false).is_empty(), "they have just come");
        assert_eq!(queue.give_up_waiting(true).len(), wanted.slots - 1);
        assert!(queue.wanted().is_none(), "after that nothing is claimed ahead");
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
