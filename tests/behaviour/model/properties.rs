//! What must hold in every reachable state.

use stateright::Property;

use super::protocol::{Protocol, RunState};

/// Each with the words by which tests name it.
pub fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::<Protocol>::always("a live step is in exactly one room, a final one in none", |_, state| {
            state.steps.iter().all(|s| {
                let rooms = [s.task, s.lease.is_some(), s.timer, s.held, s.queued, s.wait, s.blocked];
                rooms.iter().filter(|r| **r).count() == usize::from(s.outcome.is_none())
            })
        }),
        Property::<Protocol>::always("a blocked step waits for a live one", |model, state| {
            (0..model.steps.len()).all(|s| {
                !state.steps[s].blocked || model.steps[s].after.is_some_and(|p| state.steps[p].outcome.is_none())
            })
        }),
        Property::<Protocol>::always("a run is live as long as it has live steps", |_, state| {
            matches!(state.run, RunState::Running | RunState::Paused) == state.steps.iter().any(|s| s.outcome.is_none())
        }),
        Property::<Protocol>::always("no stale write is accepted", |_, state| !state.seen.stale_write),
        Property::<Protocol>::always("an attempt is begun at most once", |_, state| !state.seen.begun_twice),
        Property::<Protocol>::always("a step begins after its predecessor has completed", |_, state| {
            !state.seen.begun_before_predecessor
        }),
        Property::<Protocol>::always("nothing is claimed while its run is paused", |_, state| {
            !state.seen.claimed_while_paused
        }),
        Property::<Protocol>::always("a worker that is well keeps what it has", |_, state| {
            !state.seen.taken_from_the_living
        }),
        Property::<Protocol>::always("at most one step of a key is ready or running", |model, state| {
            model.places_taken(state) <= 1
        }),
        Property::<Protocol>::always("a key with room has nobody waiting", |model, state| {
            model.places_taken(state) > 0 || !state.steps.iter().any(|s| s.queued)
        }),
        Property::<Protocol>::always("a signal is consumed at most once", |_, state| {
            state.seen.consumed <= u8::from(state.sent)
        }),
        Property::<Protocol>::always("every running step has somebody who will end it", |_, state| {
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
        Property::<Protocol>::sometimes("a run completes", |_, state| state.run == RunState::Completed),
    ]
}
