//! What the database does within an action: where steps go, what ends with them, who is let in.

use super::protocol::{Call, Fault, Outcome, Protocol, RunState, State, Step};

impl Protocol {
    pub fn broken(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub fn places_taken(&self, state: &State) -> usize {
        (0..self.steps.len())
            .filter(|&s| self.steps[s].keyed && (state.steps[s].task || state.steps[s].lease.is_some()))
            .count()
    }

    /// A step becomes ready now: its place is behind all others.
    pub fn ready(&self, state: &mut State, step: usize) {
        state.line.retain(|s| *s != step);
        state.line.push(step);
        self.place(state, step);
    }

    /// A ready step goes to its lane, to its key, or aside. (`place_ready`)
    pub fn place(&self, state: &mut State, step: usize) {
        let room = &mut state.steps[step];
        if state.run == RunState::Paused && !self.broken(Fault::ReadyWhilePaused) {
            room.held = true;
        } else if self.steps[step].keyed && !self.broken(Fault::GateIgnored) {
            room.queued = true;
        } else {
            room.task = true;
        }
    }

    /// When an action is over, the first in line for a key is let in. Whoever waited for it stands behind all others from then
    /// on. (`admit`)
    pub fn admit(&self, before: &State, state: &mut State) {
        let waited = |step: usize| before.steps[step].queued;
        let next = state
            .line
            .iter()
            .copied()
            .find(|&s| state.steps[s].queued && !(waited(s) && self.broken(Fault::GateNeverOpens)));
        if let Some(next) = next
            && self.places_taken(state) == 0
        {
            state.steps[next].queued = false;
            state.steps[next].task = true;
            if waited(next) {
                state.line.retain(|s| *s != next);
                state.line.push(next);
            }
        }
    }

    /// A step begins whose predecessors have ended. (`enter_step`)
    pub fn enter(&self, state: &mut State, step: usize) {
        state.steps[step].blocked = false;
        if self.steps[step].signals > 0 {
            state.steps[step].wait = true;
            state.steps[step].signals = self.steps[step].signals;
            self.match_signals(state);
        } else {
            self.ready(state, step);
        }
    }

    /// Kept signals meet steps that wait for them. (`match_topic`)
    pub fn match_signals(&self, state: &mut State) {
        while state.kept_signals > 0
            && let Some(step) = (0..self.steps.len()).find(|&s| state.steps[s].wait)
        {
            if !self.broken(Fault::SignalStays) || state.seen.consumed > 2 {
                state.kept_signals -= 1;
            }
            state.seen.consumed += 1;
            state.steps[step].signals -= 1;
            if state.steps[step].signals == 0 {
                state.steps[step].wait = false;
                self.complete(state, step, 0);
            }
        }
    }

    /// A step completes, and what comes after goes on. (`complete`, `end_step`)
    pub fn complete(&self, state: &mut State, step: usize, attempt: u8) {
        state.steps[step].outcome = Some(Outcome::Completed);
        state.steps[step].ended_by = attempt;
        if !self.broken(Fault::ForgetsSuccessor) {
            for next in 0..self.steps.len() {
                if self.steps[next].after == Some(step) && state.steps[next].blocked {
                    self.enter(state, next);
                }
            }
        }
        if state.steps.iter().all(|s| s.outcome.is_some()) {
            state.run = RunState::Completed;
        }
    }

    /// All that is live ends. (`end_runs`, `cancel_steps`)
    pub fn end_run(&self, state: &mut State, end: RunState) {
        for step in state.steps.iter_mut().filter(|s| s.outcome.is_none()) {
            let lease = step.lease;
            *step = Step {
                attempt: step.attempt,
                failures: step.failures,
                outcome: Some(Outcome::Cancelled),
                lease: lease.filter(|_| self.broken(Fault::StopForgetsLeases)),
                ..Step::default()
            };
        }
        state.run = end;
    }

    /// An attempt has ended without completing its step: another one, or the failure of the run. (`settle_attempts`)
    pub fn settle(&self, state: &mut State, step: usize, counts: bool, at_once: bool) {
        state.steps[step].failures += u8::from(counts);
        if state.steps[step].failures >= self.bounds.attempts {
            state.steps[step].outcome = Some(Outcome::Failed);
            state.steps[step].ended_by = state.steps[step].attempt;
            self.end_run(state, RunState::Failed);
        } else if at_once {
            self.ready(state, step);
        } else {
            state.steps[step].timer = true;
        }
    }

    pub fn take(&self, state: &mut State, worker: usize, step: usize) -> u8 {
        state.claims += 1;
        state.seen.claimed_while_paused |= state.run == RunState::Paused;
        if !(self.broken(Fault::ClaimLeavesTask)) {
            state.steps[step].task = false;
        }
        if !(self.broken(Fault::SameAttemptAgain) && state.steps[step].attempt > 0) {
            state.steps[step].attempt += 1;
        }
        let attempt = state.steps[step].attempt;
        state.steps[step].lease = Some((worker, attempt));
        attempt
    }

    pub fn begin(&self, state: &mut State, worker: usize, step: usize, attempt: u8) {
        state.seen.begun_twice |= !state.seen.begun.insert((step, attempt));
        if let Some(before) = self.steps[step].after {
            state.seen.begun_before_predecessor |= state.steps[before].outcome != Some(Outcome::Completed);
        }
        state.workers[worker].working.insert((step, attempt));
    }

    /// What a call does when it arrives.
    pub fn arrive(&self, state: &mut State, call: Call) {
        let (worker, step, attempt) = call.attempt();
        let owns = state.steps[step].lease == Some((worker, attempt));
        match call {
            Call::Complete { .. } if owns || self.broken(Fault::NoFencing) => {
                state.seen.stale_write |= !owns;
                state.steps[step].lease = None;
                state.steps[step].task &= self.broken(Fault::ClaimLeavesTask);
                self.complete(state, step, attempt);
            }
            Call::Fail { .. } if owns => {
                state.steps[step].lease = None;
                self.settle(state, step, true, false);
            }
            _ => {}
        }
    }

    /// The leases of a worker go to others. (`free_leases`, `release`)
    pub fn free_leases(&self, state: &mut State, worker: usize, counts: bool) {
        for step in 0..self.steps.len() {
            if state.steps[step].lease.is_some_and(|(owner, _)| owner == worker) {
                state.steps[step].lease = None;
                if counts || !self.broken(Fault::ShutdownDrops) {
                    self.settle(state, step, counts, true);
                }
            }
        }
    }
}
