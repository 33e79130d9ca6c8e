//! Exhaustive exploration: every property holds in every reachable state, and each broken rule is found.

use stateright::{Checker, HasDiscoveries, Model};

use super::protocol::{Bounds, Fault, Protocol, StepDef};

const STEP: StepDef = StepDef { after: None, keyed: false, signals: 0 };

/// Scenarios that together use everything, each small enough to be explored to the end.
pub fn scenarios() -> Vec<(&'static str, Protocol)> {
    let protocol = |steps: &[StepDef], bounds: Bounds| Protocol { steps: steps.to_vec(), bounds, fault: None };
    let after = |step: usize| StepDef { after: Some(step), ..STEP };
    let keyed = StepDef { keyed: true, ..STEP };
    let signalled = |signals: u8| StepDef { signals, ..STEP };
    vec![
        (
            "crashes",
            protocol(
                &[STEP, after(0)],
                Bounds { workers: 2, attempts: 3, claims: 4, crashes: true, ..Bounds::default() },
            ),
        ),
        (
            "failures",
            protocol(
                &[STEP, after(0)],
                Bounds {
                    workers: 2,
                    attempts: 2,
                    claims: 4,
                    failures: true,
                    shutdowns: true,
                    pauses: 1,
                    stops: true,
                    ..Bounds::default()
                },
            ),
        ),
        (
            "operators",
            protocol(
                &[STEP, after(0)],
                Bounds {
                    workers: 2,
                    attempts: 2,
                    claims: 3,
                    crashes: true,
                    pauses: 1,
                    stops: true,
                    ..Bounds::default()
                },
            ),
        ),
        (
            "keys",
            protocol(
                &[keyed, keyed, STEP],
                Bounds {
                    workers: 2,
                    attempts: 2,
                    claims: 5,
                    failures: true,
                    shutdowns: true,
                    pauses: 1,
                    stops: true,
                    ..Bounds::default()
                },
            ),
        ),
        (
            "signals",
            protocol(
                &[signalled(2), signalled(1), StepDef { after: Some(1), ..STEP }],
                Bounds {
                    workers: 1,
                    attempts: 2,
                    claims: 2,
                    pauses: 2,
                    stops: true,
                    shutdowns: true,
                    ..Bounds::default()
                },
            ),
        ),
    ]
}

#[test]
fn every_property_holds_in_every_reachable_state() {
    for (name, protocol) in scenarios() {
        let checker = protocol.checker().threads(2).spawn_bfs().join();
        println!(
            "{name}: {} states, {} distinct, depth {}",
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth()
        );
        for (property, path) in checker.discoveries() {
            assert_eq!(property, "a run completes", "{name}: {property}\n{path}");
        }
    }
}

#[test]
fn each_broken_rule_is_found() {
    for (fault, scenario, expected) in [
        (Fault::NoFencing, "crashes", "no stale write is accepted"),
        (Fault::ClaimLeavesTask, "crashes", "a live step is in exactly one room, a final one in none"),
        (Fault::ForgetsSuccessor, "crashes", "a blocked step waits for a live one"),
        (Fault::SuccessorTooEarly, "crashes", "a step begins after its predecessor has completed"),
        (Fault::SameAttemptAgain, "crashes", "an attempt is begun at most once"),
        (Fault::ExpiryByWorkersClock, "crashes", "a worker that is well keeps what it has"),
        (Fault::NeverRecovers, "crashes", "every running step has somebody who will end it"),
        (Fault::LateClaimsTaken, "crashes", "every running step has somebody who will end it"),
        (Fault::PauseForgetsReady, "failures", "nothing is claimed while its run is paused"),
        (Fault::ReadyWhilePaused, "failures", "nothing is claimed while its run is paused"),
        (Fault::StopForgetsLeases, "failures", "a live step is in exactly one room, a final one in none"),
        (Fault::GateIgnored, "keys", "at most one step of a key is ready or running"),
        (Fault::GateNeverOpens, "keys", "a key with room has nobody waiting"),
        (Fault::SignalStays, "signals", "a signal is consumed at most once"),
        (Fault::SignalTwice, "signals", "a signal is consumed at most once"),
        (Fault::ShutdownDrops, "failures", "a live step is in exactly one room, a final one in none"),
    ] {
        let (_, protocol) = scenarios().into_iter().find(|(name, _)| *name == scenario).expect("a scenario");
        let broken = Protocol { fault: Some(fault), ..protocol };
        let finish = HasDiscoveries::AllOf(std::iter::once(expected).collect());
        let checker = broken.checker().threads(2).finish_when(finish).spawn_bfs().join();
        let path = checker.discovery(expected).unwrap_or_else(|| panic!("{fault:?} goes unseen"));
        println!("{fault:?}: {expected:?} fails after {} actions", path.into_actions().len());
    }
}
