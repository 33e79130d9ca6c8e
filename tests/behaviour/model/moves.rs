//! The actions: which are possible in a state, and what each makes of it.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::{
    properties::properties,
    protocol::{Action, Call, Fault, Protocol, RunState, Seen, State, Step, Worker},
};

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
        let before = state.clone();
        for step in 0..self.steps.len() {
            if self.steps[step].after.is_some() && !self.broken(Fault::SuccessorTooEarly) {
                state.steps[step].blocked = true;
            } else {
                self.enter(&mut state, step);
            }
        }
        self.admit(&before, &mut state);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let b = &self.bounds;
        for (worker, w) in state.workers.iter().enumerate() {
            if w.frozen {
                actions.push(Action::Thaw { worker });
            }
            let unwell = w.crashed || w.frozen;
            if w.late && !w.lost && state.claims < b.claims {
                let ready = (0..self.steps.len()).filter(|&s| state.steps[s].task);
                actions.extend(ready.map(|step| Action::LateClaim { worker, step }));
            }
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
                if b.crashes && !w.late {
                    actions.push(Action::GiveUpClaim { worker });
                }
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
            Action::GiveUpClaim { worker } => {
                state.workers[worker].unsure = !self.broken(Fault::NeverRecovers);
                state.workers[worker].late = true;
            }
            Action::LateClaim { worker, step } => {
                self.take(&mut state, worker, step);
                state.workers[worker].late = false;
            }
            Action::Recover { worker } => {
                state.workers[worker].unsure = false;
                state.workers[worker].late &= self.broken(Fault::LateClaimsTaken);
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
                *w = Worker { crashed: true, lost: w.lost, late: w.late, ..Worker::default() };
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
                            (s.task, s.queued, s.held) = (false, false, true);
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
        self.admit(before, &mut state);
        // Nothing happened: no new state.
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
