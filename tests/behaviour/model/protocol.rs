//! The protocol as a model that can be explored exhaustively (with the `stateright` crate): one run, its steps in their rooms,
//! workers that own attempts, crash, freeze and wake, and calls that are lost, repeated or late.
//!
//! What the database does is an action each; what it decides by is all that the action looks at. `docs/model.md` names the SQL
//! function of each action. A [`Fault`] breaks one rule, so that the property which depends on it can be seen to fail.

use std::collections::BTreeSet;

use stateright::{Model, Property};

/// A step of the flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepDef {
    /// The step that must have completed before.
    pub after: Option<usize>,
    /// Shares a key of concurrency, of which one step at a time may be ready or running.
    pub keyed: bool,
    /// Waits for a signal instead of being worked on; so many times one after the other.
    pub signals: u8,
}

/// What can happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Worker processes.
    pub workers: usize,
    /// Attempts that a step may use up.
    pub attempts: u8,
    /// Claims in all: handing back and shutting down use up no attempt.
    pub claims: u8,
    /// Whether workers crash and freeze.
    pub crashes: bool,
    /// Whether handlers fail and are tried again.
    pub failures: bool,
    /// Whether workers shut down and hand back.
    pub shutdowns: bool,
    /// How often operators pause or resume the run.
    pub pauses: u8,
    /// Whether operators stop the run.
    pub stops: bool,
}

/// One rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A completion is accepted whoever owns the step by now.
    NoFencing,
    /// A claim does not see that another one has just taken the step.
    ClaimLeavesTask,
    /// A completion does not unblock what comes after.
    ForgetsSuccessor,
    /// A completion unblocks what still waits for others.
    SuccessorTooEarly,
    /// A step that is tried again gets the number of the attempt before.
    SameAttemptAgain,
    /// Leases expire although their owner is well.
    ExpiryByWorkersClock,
    /// A claim whose answer was lost is never asked about.
    NeverRecovers,
    /// Pausing leaves ready steps where they are.
    PauseForgetsReady,
    /// What becomes ready while its run is paused goes to its queue.
    ReadyWhilePaused,
    /// Stopping leaves running steps in their room.
    StopForgetsLeases,
    /// A key lets everybody in.
    GateIgnored,
    /// The next one of a key is not let in.
    GateNeverOpens,
    /// A signal that was delivered stays.
    SignalStays,
    /// The same signal sent twice counts twice.
    SignalTwice,
    /// Shutting down deletes leases and places nothing.
    ShutdownDrops,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
}

/// State of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    Running,
    Paused,
    Completed,
    Failed,
    Cancelled,
}

/// A step: a row in each room that it stands in. That there is never more than one is a property, not a type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Step {
    pub task: bool,
    /// Owner and attempt.
    pub lease: Option<(usize, u8)>,
    pub timer: bool,
    pub held: bool,
    pub queued: bool,
    pub wait: bool,
    pub blocked: bool,
    /// Number of the last attempt.
    pub attempt: u8,
    /// Attempts used up.
    pub failures: u8,
    /// Signals that are still to come.
    pub signals: u8,
    pub outcome: Option<Outcome>,
    /// The attempt that ended it.
    pub ended_by: u8,
}

/// A worker process, and what the database knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    /// The database has given it up, or it left.
    pub lost: bool,
    pub crashed: bool,
    pub frozen: bool,
    /// An answer to a claim was lost, and it has not asked yet what it owns.
    pub unsure: bool,
    /// What it works on: step and attempt.
    pub working: BTreeSet<(usize, u8)>,
}

/// A call on its way to the database. It may be lost, come late, or come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Complete { worker: usize, step: usize, attempt: u8 },
    Fail { worker: usize, step: usize, attempt: u8 },
}

impl Call {
    /// Worker, step and attempt.
    fn attempt(self) -> (usize, usize, u8) {
        let (Self::Complete { worker, step, attempt } | Self::Fail { worker, step, attempt }) = self;
        (worker, step, attempt)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub run: RunState,
    pub steps: Vec<Step>,
    pub workers: Vec<Worker>,
    /// Calls on their way.
    pub calls: BTreeSet<Call>,
    /// Calls that have arrived: an arrival that is repeated finds that it was done before.
    pub arrived: BTreeSet<Call>,
    /// Signals that were sent and not consumed yet.
    pub kept_signals: u8,
    pub sent: bool,
    pub claims: u8,
    pub pauses: u8,
    /// Steps in the order of their places in line; who is paused or queued keeps its place.
    pub line: Vec<usize>,
    /// What has gone wrong, as only an onlooker can see it.
    pub seen: Seen,
}

/// What an onlooker has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Attempts that were begun.
    begun: BTreeSet<(usize, u8)>,
    begun_twice: bool,
    begun_before_predecessor: bool,
    claimed_while_paused: bool,
    stale_write: bool,
    taken_from_the_living: bool,
    consumed: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A claim, its answer received.
    Claim {
        worker: usize,
        step: usize,
    },
    /// A claim whose answer is lost.
    ClaimUnanswered {
        worker: usize,
        step: usize,
    },
    /// The worker asks what it owns besides what it knows.
    Recover {
        worker: usize,
    },
    /// A handler ends well, and the worker says so.
    Finish {
        worker: usize,
        step: usize,
    },
    /// A handler fails, and the worker says so.
    FinishBadly {
        worker: usize,
        step: usize,
    },
    /// A call arrives.
    Arrive(Call),
    /// A call that has arrived is repeated: its answer was lost.
    Repeat(Call),
    Crash {
        worker: usize,
    },
    Freeze {
        worker: usize,
    },
    Thaw {
        worker: usize,
    },
    /// The database's clock says that the worker's heartbeat has stopped.
    Expire {
        worker: usize,
    },
    /// A worker leaves in good order.
    Shutdown {
        worker: usize,
    },
    FireTimer {
        step: usize,
    },
    Pause,
    Resume,
    Stop,
    /// A signal is sent; the same one may be sent again, as after a lost answer.
    Signal,
}

/// The model: a flow, what can happen to it, and at most one broken rule.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub steps: Vec<StepDef>,
    pub bounds: Bounds,
    pub fault: Option<Fault>,
}

impl Protocol {
    fn broken(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn places_taken(&self, state: &State) -> usize {
        (0..self.steps.len())
            .filter(|&s| self.steps[s].keyed && (state.steps[s].task || state.steps[s].lease.is_some()))
            .count()
    }

    /// A step becomes ready now: its place is behind all others.
    fn ready(&self, state: &mut State, step: usize) {
        state.line.retain(|s| *s != step);
        state.line.push(step);
        self.place(state, step);
    }

    /// A ready step goes to its queue, or aside. (`place_ready`, `admit`)
    fn place(&self, state: &mut State, step: usize) {
        if state.run == RunState::Paused && !self.broken(Fault::ReadyWhilePaused) {
            state.steps[step].held = true;
        } else if self.steps[step].keyed && self.places_taken(state) > 0 && !self.broken(Fault::GateIgnored) {
            state.steps[step].queued = true;
        } else {
            state.steps[step].task = true;
        }
    }

    /// A step has left task or lease: the next one of its key is let in. (`leave_gates`)
    fn leave_gate(&self, state: &mut State, step: usize) {
        if !self.steps[step].keyed || self.broken(Fault::GateNeverOpens) {
            return;
        }
        if let Some(next) = state.line.iter().copied().find(|&s| state.steps[s].queued)
            && self.places_taken(state) == 0
        {
            state.steps[next].queued = false;
            state.steps[next].task = true;
            state.line.retain(|s| *s != next);
            state.line.push(next);
        }
    }

    /// A step begins whose predecessors have ended. (`enter_step`)
    fn enter(&self, state: &mut State, step: usize) {
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
    fn match_signals(&self, state: &mut State) {
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
    fn complete(&self, state: &mut State, step: usize, attempt: u8) {
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
    fn end_run(&self, state: &mut State, end: RunState) {
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
    fn settle(&self, state: &mut State, step: usize, counts: bool, at_once: bool) {
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

    fn take(&self, state: &mut State, worker: usize, step: usize) -> u8 {
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

    fn begin(&self, state: &mut State, worker: usize, step: usize, attempt: u8) {
        state.seen.begun_twice |= !state.seen.begun.insert((step, attempt));
        if let Some(before) = self.steps[step].after {
            state.seen.begun_before_predecessor |= state.steps[before].outcome != Some(Outcome::Completed);
        }
        state.workers[worker].working.insert((step, attempt));
    }

    /// What a call does when it arrives.
    fn arrive(&self, state: &mut State, call: Call) {
        let (worker, step, attempt) = call.attempt();
        let owns = state.steps[step].lease == Some((worker, attempt));
        match call {
            Call::Complete { .. } if owns || self.broken(Fault::NoFencing) => {
                state.seen.stale_write |= !owns;
                state.steps[step].lease = None;
                state.steps[step].task &= self.broken(Fault::ClaimLeavesTask);
                self.complete(state, step, attempt);
                self.leave_gate(state, step);
            }
            Call::Fail { .. } if owns => {
                state.steps[step].lease = None;
                self.leave_gate(state, step);
                self.settle(state, step, true, false);
            }
            _ => {}
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            run: RunState::Running,
            steps: vec![Step::default(); self.steps.len()],
            workers: vec![Worker::default(); self.bounds.workers],
            calls: BTreeSet::new(),
            arrived: BTreeSet::new(),
            kept_signals: 0,
            sent: false,
            claims: 0,
            pauses: 0,
            line: Vec::new(),
            seen: Seen::default(),
        };
        for step in 0..self.steps.len() {
            if self.steps[step].after.is_some() && !self.broken(Fault::SuccessorTooEarly) {
                state.steps[step].blocked = true;
            } else {
                self.enter(&mut state, step);
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let b = &self.bounds;
        for (worker, w) in state.workers.iter().enumerate() {
            if w.frozen {
                actions.push(Action::Thaw { worker });
            }
            let unwell = w.crashed || w.frozen;
            if !w.lost && (unwell || self.broken(Fault::ExpiryByWorkersClock)) {
                actions.push(Action::Expire { worker });
            }
            if unwell {
                continue;
            }
            for &(step, _) in &w.working {
                actions.push(Action::Finish { worker, step });
                if b.failures {
                    actions.push(Action::FinishBadly { worker, step });
                }
            }
            if b.crashes {
                actions.push(Action::Crash { worker });
                if !w.lost {
                    actions.push(Action::Freeze { worker });
                }
            }
            if w.lost {
                continue;
            }
            if w.unsure {
                actions.push(Action::Recover { worker });
            } else if state.claims < b.claims {
                for step in (0..self.steps.len()).filter(|&s| state.steps[s].task) {
                    actions.push(Action::Claim { worker, step });
                    if b.crashes {
                        actions.push(Action::ClaimUnanswered { worker, step });
                    }
                }
            }
            if b.shutdowns && worker == 0 {
                actions.push(Action::Shutdown { worker });
            }
        }
        actions.extend(state.calls.iter().map(|call| Action::Arrive(*call)));
        if b.crashes {
            actions.extend(state.arrived.iter().map(|call| Action::Repeat(*call)));
        }
        actions.extend((0..self.steps.len()).filter(|&s| state.steps[s].timer).map(|step| Action::FireTimer { step }));
        match state.run {
            RunState::Running if state.pauses < b.pauses => actions.push(Action::Pause),
            RunState::Paused => actions.push(Action::Resume),
            _ => {}
        }
        if b.stops && matches!(state.run, RunState::Running | RunState::Paused) {
            actions.push(Action::Stop);
        }
        if self.steps.iter().any(|s| s.signals > 0) {
            actions.push(Action::Signal);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Claim { worker, step } => {
                let attempt = self.take(&mut state, worker, step);
                self.begin(&mut state, worker, step, attempt);
            }
            Action::ClaimUnanswered { worker, step } => {
                self.take(&mut state, worker, step);
                state.workers[worker].unsure = !self.broken(Fault::NeverRecovers);
            }
            Action::Recover { worker } => {
                state.workers[worker].unsure = false;
                for step in 0..self.steps.len() {
                    if let Some((owner, attempt)) = state.steps[step].lease
                        && owner == worker
                        && !state.workers[worker].working.contains(&(step, attempt))
                        && !state.calls.iter().any(|c| c.attempt() == (worker, step, attempt))
                    {
                        self.begin(&mut state, worker, step, attempt);
                    }
                }
            }
            Action::Finish { worker, step } | Action::FinishBadly { worker, step } => {
                let working = &mut state.workers[worker].working;
                let attempt = working.iter().find(|(s, _)| *s == step).map(|(_, a)| *a)?;
                working.remove(&(step, attempt));
                state.calls.insert(match action {
                    Action::Finish { .. } => Call::Complete { worker, step, attempt },
                    _ => Call::Fail { worker, step, attempt },
                });
            }
            Action::Arrive(call) => {
                state.calls.remove(&call);
                self.arrive(&mut state, call);
                if self.bounds.crashes {
                    state.arrived.insert(call);
                }
            }
            Action::Repeat(call) => {
                state.arrived.remove(&call);
                self.arrive(&mut state, call);
            }
            Action::Crash { worker } => {
                let w = &mut state.workers[worker];
                *w = Worker { crashed: true, lost: w.lost, ..Worker::default() };
            }
            Action::Freeze { worker } => state.workers[worker].frozen = true,
            Action::Thaw { worker } => state.workers[worker].frozen = false,
            Action::Expire { worker } => {
                let w = &mut state.workers[worker];
                w.lost = true;
                state.seen.taken_from_the_living |= !(w.crashed || w.frozen || w.working.is_empty());
                self.free_leases(&mut state, worker, true);
            }
            Action::Shutdown { worker } => {
                state.workers[worker] = Worker { lost: true, ..Worker::default() };
                state.workers[worker].crashed = true;
                self.free_leases(&mut state, worker, false);
            }
            Action::FireTimer { step } => {
                state.steps[step].timer = false;
                self.ready(&mut state, step);
            }
            Action::Pause => {
                state.run = RunState::Paused;
                state.pauses += 1;
                if !self.broken(Fault::PauseForgetsReady) {
                    for step in 0..self.steps.len() {
                        let s = &mut state.steps[step];
                        if s.task || s.queued {
                            let had_place = s.task;
                            (s.task, s.queued, s.held) = (false, false, true);
                            if had_place {
                                self.leave_gate(&mut state, step);
                            }
                        }
                    }
                }
            }
            Action::Resume => {
                state.run = RunState::Running;
                for step in state.line.clone() {
                    if std::mem::take(&mut state.steps[step].held) {
                        self.place(&mut state, step);
                    }
                }
            }
            Action::Stop => self.end_run(&mut state, RunState::Cancelled),
            Action::Signal => {
                if !state.sent || self.broken(Fault::SignalTwice) && state.kept_signals + state.seen.consumed < 3 {
                    state.kept_signals += 1;
                }
                state.sent = true;
                if matches!(state.run, RunState::Running | RunState::Paused) {
                    self.match_signals(&mut state);
                }
            }
        }
        // Nothing happened: no new state.
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("a live step is in exactly one room, a final one in none", |_, state| {
                state.steps.iter().all(|s| {
                    let rooms = [s.task, s.lease.is_some(), s.timer, s.held, s.queued, s.wait, s.blocked];
                    rooms.iter().filter(|r| **r).count() == usize::from(s.outcome.is_none())
                })
            }),
            Property::<Self>::always("a blocked step waits for a live one", |model, state| {
                (0..model.steps.len()).all(|s| {
                    !state.steps[s].blocked || model.steps[s].after.is_some_and(|p| state.steps[p].outcome.is_none())
                })
            }),
            Property::<Self>::always("a run is live as long as it has live steps", |_, state| {
                matches!(state.run, RunState::Running | RunState::Paused)
                    == state.steps.iter().any(|s| s.outcome.is_none())
            }),
            Property::<Self>::always("no stale write is accepted", |_, state| !state.seen.stale_write),
            Property::<Self>::always("an attempt is begun at most once", |_, state| !state.seen.begun_twice),
            Property::<Self>::always("a step begins after its predecessor has completed", |_, state| {
                !state.seen.begun_before_predecessor
            }),
            Property::<Self>::always("nothing is claimed while its run is paused", |_, state| {
                !state.seen.claimed_while_paused
            }),
            Property::<Self>::always("a worker that is well keeps what it has", |_, state| {
                !state.seen.taken_from_the_living
            }),
            Property::<Self>::always("at most one step of a key is ready or running", |model, state| {
                model.places_taken(state) <= 1
            }),
            Property::<Self>::always("a key with room has nobody waiting", |model, state| {
                model.places_taken(state) > 0 || !state.steps.iter().any(|s| s.queued)
            }),
            Property::<Self>::always("a signal is consumed at most once", |_, state| {
                state.seen.consumed <= u8::from(state.sent)
            }),
            Property::<Self>::always("every running step has somebody who will end it", |_, state| {
                state.steps.iter().enumerate().all(|(step, s)| {
                    s.lease.is_none_or(|(worker, attempt)| {
                        let w = &state.workers[worker];
                        // It expires, or is asked about, or is worked on, or its outcome is on its way.
                        w.crashed
                            || w.frozen
                            || w.unsure
                            || w.working.contains(&(step, attempt))
                            || state.calls.iter().any(|c| c.attempt() == (worker, step, attempt))
                    })
                })
            }),
            Property::<Self>::sometimes("a run completes", |_, state| state.run == RunState::Completed),
        ]
    }
}

impl Protocol {
    /// The leases of a worker go to others. (`free_leases`, `release`)
    fn free_leases(&self, state: &mut State, worker: usize, counts: bool) {
        for step in 0..self.steps.len() {
            if state.steps[step].lease.is_some_and(|(owner, _)| owner == worker) {
                state.steps[step].lease = None;
                self.leave_gate(state, step);
                if counts || !self.broken(Fault::ShutdownDrops) {
                    self.settle(state, step, counts, true);
                }
            }
        }
    }
}
