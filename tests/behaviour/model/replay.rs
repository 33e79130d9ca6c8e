//! Random walks through the model beside the real database: after each action both must show the same. What the database
//! showed is a trace; the model accepts every recorded trace, and refuses one that was tampered with.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use stateright::Model;

use super::{
    exploring::scenarios,
    protocol::{Action, Outcome, Protocol},
    world::{Shown, World},
};
use crate::harness::{TestDb, with_database};

/// What happened, and what the database showed then.
type Trace = Vec<(Action, Shown)>;

/// Whether a trace is a behaviour of the model.
fn accepts(model: &Protocol, trace: &Trace) -> Result<(), String> {
    let mut state = model.init_states().remove(0);
    for (place, (action, shown)) in trace.iter().enumerate() {
        let mut possible = Vec::new();
        model.actions(&state, &mut possible);
        if !possible.contains(action) {
            return Err(format!("action {place}, {action:?}, is not possible then"));
        }
        state = model.next_state(&state, *action).unwrap_or(state);
        if Shown::from(&state) != *shown {
            return Err(format!(
                "after action {place}, {action:?}:\n  model    {:?}\n  database {shown:?}\n  trace {trace:#?}",
                Shown::from(&state)
            ));
        }
    }
    Ok(())
}

/// Walks through the model and the database at once, choosing among what is possible; gives the trace.
async fn walk(db: &TestDb, model: &Protocol, mut choose: impl FnMut(&[Action]) -> Option<Action>) -> Trace {
    let world = World::new(db, model).await;
    let mut state = model.init_states().remove(0);
    assert_eq!(Shown::from(&state), world.look().await, "at the start");
    let mut trace = Vec::new();
    loop {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let Some(action) = choose(&actions) else { break };
        world.make(action).await;
        state = model.next_state(&state, action).unwrap_or(state);
        let shown = world.look().await;
        trace.push((action, shown.clone()));
        if Shown::from(&state) != shown {
            break;
        }
    }
    world.end().await;
    trace
}

/// Scenarios that a flow can have: a signal step waits once.
fn flows() -> Vec<(&'static str, Protocol)> {
    scenarios().into_iter().filter(|(_, protocol)| protocol.steps.iter().all(|s| s.signals < 2)).collect()
}

/// Walks of each scenario; `LONGHAUL_MODEL_WALKS` for more.
fn walks() -> u32 {
    std::env::var("LONGHAUL_MODEL_WALKS").ok().and_then(|n| n.parse().ok()).unwrap_or(25)
}

#[test]
fn the_database_walks_as_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(with_database(|db| async move {
        for (name, model) in flows() {
            let (db, model) = (db.clone(), model.clone());
            // proptest is not asynchronous.
            tokio::task::spawn_blocking(move || {
                let handle = tokio::runtime::Handle::current();
                let compared = std::cell::Cell::new(0);
                let config =
                    Config { cases: walks(), failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
                TestRunner::new(config)
                    .run(&prop::collection::vec(any::<u8>(), 1..30), |choices| {
                        let mut choices = choices.into_iter();
                        let choose = |actions: &[Action]| {
                            let choice = usize::from(choices.next()?);
                            (!actions.is_empty()).then(|| actions[choice % actions.len()])
                        };
                        let trace = handle.block_on(walk(&db, &model, choose));
                        compared.set(compared.get() + trace.len());
                        accepts(&model, &trace).map_err(TestCaseError::fail)
                    })
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                println!("{name}: {} walks, {} states compared", walks(), compared.get());
            })
            .await
            .unwrap();
        }
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_was_tampered_with_is_refused() {
    with_database(|db| async move {
        let (_, model) = flows().into_iter().find(|(name, _)| *name == "crashes").unwrap();
        // As it goes when nothing goes wrong.
        let well = |action: &Action| matches!(action, Action::Claim { .. } | Action::Finish { .. } | Action::Arrive(_));
        let trace = walk(&db, &model, |actions| actions.iter().copied().find(well)).await;
        assert_eq!(trace.len(), 6, "two steps are claimed, finished and completed: {trace:?}");
        accepts(&model, &trace).unwrap();

        let mut another_attempt = trace.clone();
        let leased =
            another_attempt.iter_mut().flat_map(|(_, shown)| &mut shown.steps).find(|s| s.1.is_some()).unwrap();
        leased.1 = leased.1.map(|(owner, attempt)| (owner, attempt + 1));
        assert!(accepts(&model, &another_attempt).is_err());

        let mut without_a_claim = trace.clone();
        without_a_claim.remove(0);
        assert!(accepts(&model, &without_a_claim).is_err());

        let mut completed = trace.clone();
        completed[0].1.steps[0].2 = Some((Outcome::Completed, 1));
        assert!(accepts(&model, &completed).is_err());
    })
    .await;
}
