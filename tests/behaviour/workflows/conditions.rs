//! Conditions, inputs, outputs, phases.

use longhaul::{Concurrency, Error, Flow, Step, calls::StepState};
use serde_json::{Value, json};

use super::{Effects, ended, input, simple_worker, start, state_of};
use crate::harness::with_database;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_condition_does_not_hold_is_skipped_and_what_follows_goes_on() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let worker = db.spawn(simple_worker(&db, &effects));
        let flow = Flow::new("f", 1)
            .step(Step::new("check", "note"))
            .step(Step::new("big", "note").after("check").when("$.steps.check.total > 100"))
            .step(Step::new("small", "note").after("check").when("$.steps.check.total <= 100"))
            .step(Step::new("small-too", "note").after("small").when("$.states.small == \"completed\""))
            .step(Step::new("end", "note").after("big").after("small-too"));
        let run = start(&client, &flow, &input()).await;
        assert_eq!(ended(&run).await.state.as_str(), "completed");
        assert_eq!(effects.all(), ["check", "big", "end"]);
        assert_eq!(state_of(&client, &run, "small").await, StepState::Skipped);
        assert_eq!(state_of(&client, &run, "small-too").await, StepState::Skipped);

        // A run of which nothing is left to do has completed.
        let nothing = Flow::new("nothing", 1).step(Step::new("a", "note").when("$.input.missing == true"));
        let run = start(&client, &nothing, &input()).await;
        assert_eq!(run.get().await.unwrap().state.as_str(), "completed");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_is_no_condition_fails_its_step_and_says_so() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1).step(Step::new("a", "note").when("$.input.total"));
        let run = start(&client, &flow, &input()).await;
        let run = run.get().await.unwrap();
        assert_eq!(run.state.as_str(), "failed");
        let error: Value = run.error.unwrap().read().unwrap();
        assert_eq!(error["step"], "a");
        assert!(error["message"].as_str().unwrap().contains("is neither true nor false"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_an_expression_cannot_use_fail_their_own_step_only() {
    with_database(|db| async move {
        let client = db.client().await;
        let key = Concurrency::per_key("$.input.key", 1);
        let flow = Flow::new("f", 1)
            .step(Step::new("a", "echo"))
            // Only times with and without a zone cannot be compared.
            .step(
                Step::new("b", "echo")
                    .after("a")
                    .when("$.input.at.datetime() < \"2026-01-01\".datetime() && $.input.key != \"$c\""),
            )
            .step(Step::new("c", "echo").after("b").concurrency(key));
        client.deploy(&flow).await.unwrap();
        let long = "k".repeat(501);
        let inputs = ["2025-06-01", "2025-06-01T12:00:00+02:00", "no time"].map(|at| json!({ "at": at, "key": "k" }));
        let inputs = inputs.into_iter().chain([json!({ "at": "2025-06-01", "key": long })]);
        let ids = client.start_many("f", inputs).await.unwrap().ids();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let mut ends = Vec::new();
        for id in ids {
            let run = ended(&client.run(id)).await;
            let error: Option<Value> = run.error.map(|error| error.read().unwrap());
            ends.push(error.map_or("completed".into(), |e| format!("{}: {}", e["step"], e["message"])));
        }
        assert_eq!(ends[0], "completed");
        assert!(ends[1].starts_with("\"b\": \"cannot convert value from"), "{ends:?}");
        assert!(ends[2].contains("is neither true nor false"), "{ends:?}");
        assert!(ends[3].starts_with("\"c\": \"the key of limit echo has 501 characters"), "{ends:?}");
        db.assert_rooms_are_sound().await;
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_outputs_are_put_together_by_templates() {
    with_database(|db| async move {
        let client = db.client().await;
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let flow = Flow::new("f", 1)
            .step(
                Step::new("first", "echo")
                    .input(json!({ "n": "$.input.id", "price": "$$5", "all": "$.input.items[*]" })),
            )
            .step(
                Step::new("second", "echo")
                    .after("first")
                    .input(json!(["$.steps.first.n", "$.steps.first.nothing", { "deep": "$.run.name" }])),
            )
            .output(json!({ "n": "$.steps.first.n", "price": "$.steps.first.price", "second": "$.steps.second" }));
        client.deploy(&flow).await.unwrap();
        let start = longhaul::Start::new(&input()).unwrap().name("Ms Miller");
        let run = client.start_with("f", start).await.unwrap();
        ended(&run).await;
        let output: Value = run.output().await.unwrap();
        assert_eq!(output, json!({ "n": 7, "price": "$5", "second": [7, null, { "deep": "Ms Miller" }] }));
        let first: Value = client.steps(run.id()).await.unwrap()[0].output.as_ref().unwrap().read().unwrap();
        assert_eq!(first["all"], json!(["a", "b", "c"]));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_begins_when_the_one_before_has_ended() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let flow = Flow::new("f", 1)
            .phase("prepare", [Step::new("a", "note"), Step::new("b", "note").after("a"), Step::new("c", "note")])
            .phase("work", [Step::new("d", "note"), Step::new("e", "note").after("d"), Step::new("f", "note")])
            .phase("end", [Step::new("g", "note")]);
        let run = start(&client, &flow, &input()).await;
        let steps = client.steps(run.id()).await.unwrap();
        assert_eq!(
            steps.iter().map(|s| s.phase.as_deref().unwrap()).collect::<Vec<_>>(),
            ["prepare", "prepare", "prepare", "work", "work", "work", "end"]
        );
        let worker = db.spawn(simple_worker(&db, &effects));
        ended(&run).await;
        let place = |step: &str| effects.all().iter().position(|e| e == step).unwrap();
        for (before, after) in [("a", "b"), ("b", "d"), ("c", "d"), ("b", "f"), ("d", "e"), ("e", "g"), ("f", "g")] {
            assert!(place(before) < place(after), "{before} before {after}: {:?}", effects.all());
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diamond_of_a_thousand_levels_is_passed_also_when_all_of_it_is_skipped() {
    with_database(|db| async move {
        let client = db.client().await;
        // A call goes on for a thousand rounds; what is left then is a chore's.
        db.spawn_scheduler();
        let diamond = |name: &str, condition: &str| {
            let mut flow = Flow::new(name, 1).step(Step::new("top", "echo"));
            let mut above = "top".to_owned();
            for level in 0..1000 {
                let (left, right, bottom) = (format!("l{level}"), format!("r{level}"), format!("b{level}"));
                flow = flow
                    .step(Step::new(&left, "echo").after(&above).when(condition))
                    .step(Step::new(&right, "echo").after(&above).when(condition))
                    .step(Step::new(&bottom, "echo").after(&left).after(&right).when(condition));
                above = bottom;
            }
            flow
        };
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        for (name, condition) in [("skipped", "$.input.never == true"), ("done", "$.input.id == 7")] {
            let run = start(&client, &diamond(name, condition), &input()).await;
            assert_eq!(ended(&run).await.state.as_str(), "completed");
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_make_no_sense_are_refused_with_place_and_reason() {
    with_database(|db| async move {
        let calls = db.calls().await;
        let step = |more: Value| {
            let mut step = json!({ "name": "a", "handler": "h" });
            step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "name": "f", "version": 1, "steps": [{ "name": "first", "handler": "h" }, step] })
        };
        let kind = |more: Value| {
            let mut step = json!({ "name": "a" });
            step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "name": "f", "version": 1, "steps": [step] })
        };
        let wrong = [
            (kind(json!({})), "step 'a': one of handler, flow, sleep and wait_signal is needed"),
            (kind(json!({ "handler": "h", "flow": "g" })), "not handler and flow"),
            (kind(json!({ "sleep": "soon" })), "step 'a': sleep: 'soon' is not a duration"),
            (kind(json!({ "sleep": 3 })), "step 'a': sleep must be a text, not 3"),
            (kind(json!({ "sleep": "1s", "retry": {} })), "retry has no meaning for a step that is a sleep"),
            (kind(json!({ "flow": "g", "timeout": "1s" })), "timeout has no meaning for a step that is a flow"),
            (kind(json!({ "flow": "g g" })), "'g g' is not a flow name"),
            (kind(json!({ "wait_signal": {} })), "wait_signal: a topic is needed"),
            (kind(json!({ "wait_signal": { "topic": "t", "on_timeout": "panic" } })), "on_timeout is fail or continue, not 'panic'"),
            (kind(json!({ "wait_signal": { "topic": "t", "to": "x" } })), "has an unknown key 'to'"),
            (step(json!({ "when": "$.input >" })), "step 'a': when: '$.input >' is not a path"),
            (step(json!({ "when": "$total > 100" })), "step 'a': when: '$total > 100' names a variable, and there are none"),
            (step(json!({ "input": { "x": "$.input.\"a\\\"b\" ? (@ == \"$c\" || @ == $\"d e\")" } })), "names a variable"),
            (step(json!({ "when": 1 })), "when must be a text, not 1"),
            (step(json!({ "when": "$.steps.later == 1" })), "step 'a' looks at 'later', which is no step of the flow"),
            (step(json!({ "when": "$.steps.first == 1" })), "which need not have ended by then; name it in after"),
            (step(json!({ "input": { "x": "$.steps.\"a\"" } })), "step 'a' looks at step a, which need not have ended"),
            (step(json!({ "input": ["$..x"] })), "input: '$..x' is not a path"),
            (step(json!({ "for_each": 7 })), "for_each must be a text"),
            (step(json!({ "window": 5 })), "window has no meaning without for_each"),
            (step(json!({ "for_each": "$.input", "window": 0 })), "window must be a whole number from 1 to 10000, not 0"),
            (step(json!({ "on_failure": "explode" })), "on_failure is fail or continue, not 'explode'"),
            (step(json!({ "compensate": "a/b" })), "compensate: 'a/b' is not a handler name"),
            (step(json!({ "detached": true })), "detached has no meaning for a step that is a handler"),
            (step(json!({ "approval": { "choices": [] } })), "approval.choices is empty"),
            (step(json!({ "approval": { "default": "maybe" } })), "approval.default 'maybe' is not among the choices"),
            (step(json!({ "approval": { "pauses": "world" } })), "approval.pauses is run or step"),
            (step(json!({ "budget": { "name": "b", "limit": 0, "per": "1h" } })), "budget.limit must be a number above 0"),
            (step(json!({ "budget": { "name": "b", "limit": 1, "per": "1ms" } })), "budget.per must be a duration of at least 1s"),
            (step(json!({ "budget": { "name": "b", "limit": 1, "per": "1h", "exceeded": "shrug" } })), "exceeded is defer, ask or fail"),
            (step(json!({ "retry": { "never_on": "x" } })), "retry.never_on must be a list of texts"),
            (step(json!({ "priority": 1.5 })), "priority must be a whole number"),
            (json!({ "name": "f", "version": 1, "steps": [], "phases": [] }), "has both steps and phases"),
            (json!({ "name": "f", "version": 1, "phases": [{ "name": "p", "steps": [] }] }), "phase p: steps must be a list of at least one step"),
            (json!({ "name": "f", "version": 1, "phases": [{ "steps": [] }] }), "phase number 1: a name of letters"),
            (json!({ "name": "f", "version": 1, "phases": [{ "name": "p", "steps": [1] }] }), "phase p: each step must be an object"),
            (json!({ "name": "f", "version": 1, "timeout": "x", "steps": [{ "name": "a", "handler": "h" }] }), "timeout: 'x' is not a duration"),
            (json!({ "name": "f", "version": 1, "output": "$.steps.b", "steps": [{ "name": "a", "handler": "h" }] }), "output looks at 'b', which is no step"),
            (json!({ "name": "f", "version": 1, "steps": [{ "name": "a", "handler": "h", "compensate": "u" }, { "name": "a.undo", "handler": "h" }] }), "the name a.undo is taken by a compensation"),
        ];
        for (definition, reason) in wrong {
            let connection = calls.executor();
            let outcome = connection.query("select * from longhaul.deploy('default', $1)", &[&definition]).await;
            let error = Error::from(outcome.expect_err(&definition.to_string()));
            assert!(matches!(&error, Error::Invalid(text) if text.contains(reason)), "{definition}\nexpected: {reason}\ngot:      {error}");
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.flow").await, 0);
    })
    .await;
}
