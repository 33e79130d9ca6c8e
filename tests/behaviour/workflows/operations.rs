//! Each operation on a run against each of its states.

use std::{fmt::Write, time::Duration};

use longhaul::{
    Error, Flow, Payload, RunHandle, Start, Step, StepContext, StepError,
    calls::{NewSignal, Operation, OperationOptions, RunState, StepState},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Effects, ended, input, simple_worker, single, start, state_of, states};
use crate::{
    harness::{TestDb, eventually, with_database, within},
    starting::play_worker,
};

/// The states, and a run that was dismissed after it was stopped.
const STATES: [(&str, RunState); 7] = [
    ("pending", RunState::Pending),
    ("running", RunState::Running),
    ("paused", RunState::Paused),
    ("completed", RunState::Completed),
    ("failed", RunState::Failed),
    ("cancelled", RunState::Cancelled),
    ("dismissed", RunState::Cancelled),
];

fn operations() -> Vec<(&'static str, Operation)> {
    vec![
        ("start", Operation::Start),
        ("pause", Operation::Pause),
        ("resume", Operation::Resume(None)),
        ("stop", Operation::Stop),
        ("rename", Operation::Rename(Some("new name".into()))),
        ("annotate", Operation::Annotate(Payload::new(&json!({ "k": 1 })).unwrap())),
        ("dismiss", Operation::Dismiss),
        ("undismiss", Operation::Undismiss),
        ("retry", Operation::Retry),
    ]
}

/// A run in this state. Nobody works on it but the played worker.
async fn run_in(db: &TestDb, worker: i64, (label, state): (&str, RunState)) -> RunHandle {
    let client = db.client().await;
    let run = match state {
        RunState::Pending => client.start_with("f", Start::new(&1).unwrap().create_only()).await.unwrap(),
        _ => client.start("f", &1).await.unwrap(),
    };
    match state {
        RunState::Pending | RunState::Running => {}
        RunState::Paused => run.pause().await.unwrap(),
        RunState::Cancelled => run.stop().await.unwrap(),
        RunState::Completed | RunState::Failed => {
            let calls = db.calls().await;
            let claimed = calls.claim(worker, &["default"], &[1000]).await.unwrap();
            let key = claimed.iter().find(|c| c.key.step.run_id == run.id()).expect("claimed").key;
            if state == RunState::Completed {
                calls.complete(worker, &[(key, Payload::null())]).await.unwrap();
            } else {
                db.execute(&format!(
                    "select longhaul.end_attempts({worker}, array['{}'::uuid], array[0], array[{}], array['failed']::longhaul.attempt_outcome[], array['{{}}'::jsonb], array[false], null)",
                    run.id(),
                    key.attempt
                ))
                .await;
            }
        }
    }
    if label == "dismissed" {
        run.dismiss().await.unwrap();
    }
    assert_eq!(run.get().await.unwrap().state, state);
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_against_each_state_as_the_table_says() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        let mut table = String::from("| operation |");
        for (label, _) in STATES {
            let _ = write!(table, " {label} |");
        }
        let _ = writeln!(table, "\n| --- |{}", " --- |".repeat(STATES.len()));
        for (name, operation) in operations() {
            let _ = write!(table, "| {name} |");
            for (label, state) in STATES {
                let run = run_in(&db, worker, (label, state)).await;
                let before = run.get().await.unwrap();
                match run.operate(operation.clone(), OperationOptions::default()).await {
                    Ok(revision) => {
                        let after = run.get().await.unwrap();
                        assert_eq!(revision, after.revision);
                        assert!(revision > before.revision, "{name} of a {state} run raises the revision");
                        let what: String =
                            if after.state == state { "done".into() } else { format!("→ {}", after.state) };
                        let _ = write!(table, " {what} |");
                        let asked = run.timeline().await.unwrap();
                        assert!(asked.iter().any(|e| e.actor.is_some()), "{name} is in the timeline: {asked:?}");
                    }
                    Err(Error::Refused(message)) => {
                        assert!(message.contains(state.as_str()), "{message}");
                        assert_eq!(run.get().await.unwrap().revision, before.revision, "nothing has changed");
                        let _ = write!(table, " refused |");
                    }
                    Err(other) => panic!("{name} of a {state} run: {other}"),
                }
            }
            table.push('\n');
        }
        // Forks and signals are no transitions of the run itself.
        let _ = write!(table, "| fork |");
        for state in STATES {
            run_in(&db, worker, state).await.fork("a").await.unwrap();
            let _ = write!(table, " new run |");
        }
        let _ = write!(table, "\n| signal |");
        for (label, state) in STATES {
            let run = run_in(&db, worker, (label, state)).await;
            match run.signal("t", &1).await {
                Ok(_) => table.push_str(" kept |"),
                Err(Error::Refused(message)) => {
                    assert!(message.contains(state.as_str()), "{message}");
                    table.push_str(" refused |");
                    run.send(NewSignal { keep_if_finished: true, ..NewSignal::new("t", Payload::null()) })
                        .await
                        .unwrap();
                }
                Err(other) => panic!("signal to a {state} run: {other}"),
            }
        }
        let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runs.md")).unwrap();
        assert!(documented.contains(&table), "docs/runs.md must have this table:\n{table}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_racing_callers_exactly_one_wins() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        for (name, operation) in operations() {
            for (label, state) in STATES {
                let run = run_in(&db, worker, (label, state)).await;
                let revision = run.get().await.unwrap().revision;
                let asking = OperationOptions::default().expect_revision(revision);
                let race = (0..50).map(|_| run.operate(operation.clone(), asking.clone()));
                let outcomes = futures::future::join_all(race).await;
                let won = outcomes.iter().filter(|o| o.is_ok()).count();
                let allowed = outcomes.iter().all(|o| !matches!(o, Err(Error::Refused(_)))) || won > 0;
                assert_eq!(won, usize::from(allowed), "{name} of a {label} run: {outcomes:?}");
                let now = run.get().await.unwrap().state;
                for lost in outcomes.iter().filter_map(|o| o.as_ref().err()) {
                    assert!(
                        matches!(lost, Error::Conflict(t) | Error::Refused(t) if t.contains(now.as_str())),
                        "{lost}"
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_carried_out_once_for_each_request_and_only_as_expected() {
    with_database(|db| async move {
        db.deploy_single("f", Step::new("a", "h")).await;
        let run = db.client().await.start("f", &1).await.unwrap();
        let once = OperationOptions::once().by("Ms Miller");
        let revision = run.operate(Operation::Pause, once.clone()).await.unwrap();
        assert_eq!(
            run.operate(Operation::Pause, once).await.unwrap(),
            revision,
            "after a lost answer it is asked for again"
        );

        let expecting = OperationOptions::default().expect_state(RunState::Running);
        let error = run.operate(Operation::Stop, expecting).await.unwrap_err();
        assert!(
            matches!(&error, Error::Conflict(text) if text.contains("is paused at revision 1, not running")),
            "{error}"
        );
        let error = run.operate(Operation::Stop, OperationOptions::default().expect_revision(0)).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict(text) if text.contains("not revision 0")), "{error}");
        run.operate(Operation::Stop, OperationOptions::default().expect_state(RunState::Paused).expect_revision(1))
            .await
            .unwrap();

        let timeline = run.timeline().await.unwrap();
        let paused: Vec<_> = timeline.iter().filter(|e| e.kind == "paused").collect();
        assert_eq!(paused.len(), 1);
        assert_eq!(paused[0].actor.as_deref(), Some("Ms Miller"));
        let kinds: Vec<&str> = timeline.iter().map(|e| e.kind.as_str()).collect();
        assert_eq!(kinds, ["created", "paused", "stopped", "step cancelled", "cancelled"]);

        let nobody = db.client().await.run(uuid::Uuid::now_v7());
        assert!(matches!(nobody.pause().await, Err(Error::NotFound(_))));
        let other = longhaul::Client::connect(&db.config.clone().tenant("other").unwrap()).await.unwrap();
        assert!(
            matches!(other.run(run.id()).dismiss().await, Err(Error::NotFound(_))),
            "tenants do not reach each other's runs"
        );
        assert!(matches!(run.rename(Some(&"x".repeat(201))).await, Err(Error::Invalid(_))));
        assert!(matches!(run.annotate(&7).await, Err(Error::Invalid(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_keeps_ready_steps_back_and_lets_running_ones_finish() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let (begun, finish) = (CancellationToken::new(), CancellationToken::new());
        let (begins, finishes) = (begun.clone(), finish.clone());
        let slow = move |_: StepContext, _: Value| {
            let (begins, finishes) = (begins.clone(), finishes.clone());
            async move {
                begins.cancel();
                finishes.cancelled().await;
                Ok::<_, StepError>(())
            }
        };
        let flow = Flow::new("f", 1)
            .step(Step::new("slow", "slow"))
            .step(Step::new("next", "note").after("slow"))
            .step(Step::new("conditional", "note").after("slow").when("$.input.id == 7"))
            .step(Step::new("waits", "nobody"));
        let run = start(&client, &flow, &input()).await;
        let worker = db.spawn(simple_worker(&db, &effects).handler("slow", slow));
        within("the handler begins", begun.cancelled()).await;
        run.pause().await.unwrap();
        assert_eq!(state_of(&client, &run, "waits").await, StepState::Paused);
        assert_eq!(
            client.why(run.id(), "waits").await.unwrap(),
            "Step waits is ready, but its run is paused (by an operator: resume it)."
        );
        finish.cancel();
        eventually("the running step has finished", || async {
            state_of(&client, &run, "slow").await == StepState::Completed
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(effects.all().is_empty(), "{:?}", effects.all());
        assert_eq!(state_of(&client, &run, "next").await, StepState::Paused);
        run.resume().await.unwrap();
        eventually("the rest is done", || async { effects.all().len() == 2 }).await;
        run.stop().await.unwrap();
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_that_fire_while_a_run_is_paused_or_goes_on_lose_no_step() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&single("f", "flaky")).await.unwrap();
        let flaky = |ctx: StepContext, _: Value| async move {
            if ctx.attempt() < 3 { Err(StepError::retry("again")) } else { Ok(()) }
        };
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()).handler("flaky", flaky));
        let ids = client.start_many("f", 0..200).await.unwrap().ids();
        let toggling = ids.iter().map(|id| {
            let run = client.run(*id);
            async move {
                for _ in 0..5 {
                    if run.pause().await.is_err() {
                        break;
                    }
                    assert_eq!(run.client_claimable().await, 0, "no step of a paused run can be claimed");
                    // Its last step may have been running, and has ended the run.
                    if let Err(error) = run.resume().await {
                        assert!(error.to_string().contains("is completed"), "{error}");
                        break;
                    }
                }
            }
        });
        futures::future::join_all(toggling).await;
        within("all runs", db.until_all_completed()).await;
        worker.stop().await;
    })
    .await;
}

trait Claimable {
    async fn client_claimable(&self) -> i64;
}

impl Claimable for RunHandle {
    /// How many steps of the run could be claimed now.
    async fn client_claimable(&self) -> i64 {
        let connection = self.client().database().connection().await.unwrap();
        connection
            .query_one("select count(*) from longhaul.task where run_id = $1", &[&self.id()])
            .await
            .unwrap()
            .get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_created_run_waits_until_it_is_started() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let flow = Flow::new("f", 1).step(Step::new("a", "echo")).step(Step::new("b", "echo").when("$.input.id == 7"));
        client.deploy(&flow).await.unwrap();
        let waiting = Start::new(&input()).unwrap().create_only().metadata(&json!({ "customer": 5 })).unwrap();
        let run = client.start_with("f", waiting).await.unwrap();
        assert_eq!(
            client.why(run.id(), "a").await.unwrap(),
            "Step a sleeps until somebody starts its run (longhaul begin)."
        );
        let info = run.get().await.unwrap();
        assert_eq!((info.state, info.start_at), (RunState::Pending, None));
        run.pause().await.unwrap();
        run.resume().await.unwrap();
        db.execute("select longhaul.advance_clock('1000 days')").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(run.get().await.unwrap().state, RunState::Pending);
        run.start().await.unwrap();
        assert_eq!(ended(&run).await.state, RunState::Completed);

        // A delayed one as well, by its time or by hand.
        for by_hand in [true, false] {
            let run =
                client.start_with("f", Start::new(&input()).unwrap().delay(Duration::from_secs(3600))).await.unwrap();
            if by_hand {
                run.start().await.unwrap();
            } else {
                db.execute("select longhaul.advance_clock('2 hours')").await;
            }
            assert_eq!(ended(&run).await.state, RunState::Completed);
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_can_be_filtered_by_anything_that_a_run_has() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("f", Step::new("a", "h")).await;
        let make = |name: &'static str, customer: i64| {
            client.start_with(
                "f",
                Start::new(&1).unwrap().name(name).metadata(&json!({ "customer": customer, "x": 1 })).unwrap(),
            )
        };
        let (anna, bert) = (make("Anna", 1).await.unwrap(), make("Bert", 2).await.unwrap());
        let filter = longhaul::calls::RunFilter::default();
        let ids = |filter: longhaul::calls::RunFilter| {
            let client = client.clone();
            async move { client.list(&filter).await.unwrap().into_iter().map(|r| r.id).collect::<Vec<_>>() }
        };
        assert_eq!(ids(longhaul::calls::RunFilter { name: Some("An%".into()), ..filter.clone() }).await, [anna.id()]);
        let metadata = Some(Payload::new(&json!({ "customer": 2 })).unwrap());
        assert_eq!(ids(longhaul::calls::RunFilter { metadata, ..filter.clone() }).await, [bert.id()]);
        assert!(ids(longhaul::calls::RunFilter { version: Some(2), ..filter.clone() }).await.is_empty());
        let later = chrono::Utc::now() + chrono::Duration::hours(1);
        assert!(ids(longhaul::calls::RunFilter { since: Some(later), ..filter.clone() }).await.is_empty());
        assert_eq!(ids(longhaul::calls::RunFilter { until: Some(later), ..filter.clone() }).await.len(), 2);
        anna.stop().await.unwrap();
        anna.dismiss().await.unwrap();
        assert_eq!(ids(filter.clone()).await, [bert.id()]);
        assert_eq!(ids(longhaul::calls::RunFilter { dismissed: true, ..filter.clone() }).await, [bert.id(), anna.id()]);
        bert.rename(Some("Berta")).await.unwrap();
        bert.annotate(&json!({ "x": null, "seen": true })).await.unwrap();
        let info = bert.get().await.unwrap();
        assert_eq!(info.name.as_deref(), Some("Berta"));
        assert_eq!(info.metadata.unwrap().read::<Value>().unwrap(), json!({ "customer": 2, "seen": true }));
        assert_eq!(states(&client, &bert).await, [("a".into(), StepState::Ready)]);
    })
    .await;
}
