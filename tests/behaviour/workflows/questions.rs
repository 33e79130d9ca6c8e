//! Approvals, decisions, policies, budgets, interrupts.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use longhaul::{
    Approval, Budget, Error, Exceeded, Flow, Payload, Policy, Question, Step, StepContext, StepError, Verdict,
    calls::{Answer, RunState, StepState},
};
use serde_json::{Value, json};

use super::{Effects, ended, input, once, simple_worker, single, start, state_of};
use crate::harness::{eventually, with_database, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_needs_approval_pauses_its_run_until_somebody_decides() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let decided = |ctx: StepContext, _: Value| async move {
            let decision = ctx.decision().await?.ok_or_else(|| StepError::fail("nobody decided"))?;
            Ok::<_, StepError>(json!([decision.choice, decision.by, decision.data]))
        };
        let worker = db.spawn(simple_worker(&db, &effects).handler("decided", decided));
        let flow = Flow::new("f", 1)
            .step(Step::new("check", "note"))
            .step(Step::new("pay", "decided").after("check").approval(Approval::ask("Pay it?").choices(["all", "half", "reject"]).by(["anna", "bert"])))
            .step(Step::new("beside", "note").after("check"));
        let run = start(&client, &flow, &input()).await;
        eventually("the question", || async { client.questions(None).await.unwrap().len() == 1 }).await;
        let question = client.questions(Some(run.id())).await.unwrap().remove(0);
        assert_eq!((question.step.as_str(), question.question.as_deref()), ("pay", Some("Pay it?")));
        assert_eq!((question.choices, question.may_answer), (vec!["all".into(), "half".into(), "reject".into()], Some(vec!["anna".into(), "bert".into()])));
        let info = run.get().await.unwrap();
        assert_eq!((info.state, info.paused_for.as_deref()), (RunState::Paused, Some("question")));
        assert_eq!(state_of(&client, &run, "beside").await, StepState::Paused, "the whole run waits");
        assert!(client.why(run.id(), "beside").await.unwrap().contains("a question waits for an answer"));

        let answer = |choice: &str| Answer { step: "pay".into(), choice: choice.into(), data: Some(Payload::new(&1).unwrap()) };
        assert!(matches!(run.resume().await, Err(Error::Refused(t)) if t.contains("waits for a decision")));
        assert!(matches!(run.decide(answer("double"), Some("anna")).await, Err(Error::Invalid(t)) if t.contains("not among the choices")));
        assert!(matches!(run.decide(answer("all"), Some("eve")).await, Err(Error::Refused(t)) if t.contains("eve may not decide")));
        let race = futures::future::join_all((0..20).map(|_| run.decide(answer("half"), Some("anna")))).await;
        assert_eq!(race.into_iter().filter(|o| *o.as_ref().unwrap()).count(), 1, "applied once however often it arrives");
        let error = run.decide(answer("all"), Some("bert")).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(t) if t.contains("anna chose half")), "{error}");

        assert_eq!(ended(&run).await.state, RunState::Completed);
        let output: Value = run.output().await.unwrap();
        assert_eq!(output["pay"], json!(["half", "anna", 1]));
        let decided = run.timeline().await.unwrap().into_iter().find(|e| e.kind == "decided").unwrap();
        assert_eq!(decided.actor.as_deref(), Some("anna"));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_or_an_expiry_fails_the_step_and_the_run_can_be_asked_again() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let approval = Approval::ask("Sure?").expires(Duration::from_secs(3 * 86_400), "reject").pauses_step();
        let flow =
            Flow::new("f", 1).step(Step::new("pay", "note").approval(approval)).step(Step::new("beside", "note"));
        let run = start(&client, &flow, &input()).await;
        eventually("the other step goes on", || async {
            state_of(&client, &run, "beside").await == StepState::Completed
        })
        .await;
        run.reject("pay", "anna").await.unwrap();
        let error: Value = ended(&run).await.error.unwrap().read().unwrap();
        assert_eq!((&error["message"], &error["code"]), (&json!("rejected by anna"), &json!("rejected")));

        run.retry().await.unwrap();
        assert_eq!(state_of(&client, &run, "pay").await, StepState::Waiting, "a retried run asks again");
        db.execute("select longhaul.advance_clock('4 days')").await;
        assert_eq!(ended(&run).await.error.unwrap().read::<Value>().unwrap()["message"], "rejected by expiry");
        run.retry().await.unwrap();
        run.approve("pay", "anna").await.unwrap();
        assert_eq!(ended(&run).await.state, RunState::Completed);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_pause_is_not_ended_by_a_decision() {
    with_database(|db| async move {
        let client = db.client().await;
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let flow = Flow::new("f", 1).step(Step::new("pay", "note").approval(Approval::ask("Sure?").pauses_step()));
        let run = start(&client, &flow, &input()).await;
        run.pause().await.unwrap();
        run.approve("pay", "anna").await.unwrap();
        assert_eq!(
            (run.get().await.unwrap().state, state_of(&client, &run, "pay").await),
            (RunState::Paused, StepState::Paused)
        );
        run.resume().await.unwrap();
        assert_eq!(ended(&run).await.state, RunState::Completed);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_race_the_creation_of_other_runs_and_nobody_waits() {
    with_database(|db| async move {
        let client = db.client().await;
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let flow = Flow::new("f", 1).step(Step::new("pay", "note").approval(Approval::ask("Sure?")));
        client.deploy(&flow).await.unwrap();
        let runs = client.start_many("f", 0..100).await.unwrap().ids();
        let approving = runs.iter().map(|id| {
            let run = client.run(*id);
            async move { run.approve("pay", "anna").await.unwrap() }
        });
        let creating = (0..100).map(|n| {
            let client = client.clone();
            async move { client.start("f", &n).await.unwrap().stop().await.unwrap() }
        });
        within(
            "all of it",
            futures::future::join(futures::future::join_all(approving), futures::future::join_all(creating)),
        )
        .await;
        eventually("the approved ones have completed", || async {
            db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await == 100
        })
        .await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spent_of_a_budget_defers_asks_or_fails() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let worker = db.spawn(simple_worker(&db, &Effects::default()));
        let budget = |name: &str, exceeded| Budget {
            name: name.into(),
            limit: 100.0,
            per: Duration::from_secs(3600).into(),
            amount: Some(json!("$.input")),
            exceeded,
        };
        let flow =
            |name: &str, exceeded| Flow::new(name, 1).step(Step::new("a", "note").budget(budget(name, exceeded)));

        let deferred = start(&client, &flow("defer", Exceeded::Defer), &json!(60)).await;
        assert_eq!(ended(&deferred).await.state, RunState::Completed);
        let deferred = start(&client, &flow("defer", Exceeded::Defer), &json!(60)).await;
        let why = client.why(deferred.id(), "a").await.unwrap();
        assert!(why.starts_with("Step a waits for: budget, until"), "{why}");
        let fitting = start(&client, &flow("defer", Exceeded::Defer), &json!(40)).await;
        assert_eq!(ended(&fitting).await.state, RunState::Completed, "what still fits is not held up");
        db.execute("select longhaul.advance_clock('61 minutes')").await;
        assert_eq!(ended(&deferred).await.state, RunState::Completed);
        let never = start(&client, &flow("defer", Exceeded::Defer), &json!(101)).await;
        assert!(ended(&never).await.error.unwrap().as_str().contains("more than the whole of budget"));

        start(&client, &flow("fail", Exceeded::Fail), &json!(100)).await;
        let failed = start(&client, &flow("fail", Exceeded::Fail), &json!(1)).await;
        assert!(ended(&failed).await.error.unwrap().as_str().contains("budget fail (100.0) is spent"));

        let asks = start(&client, &flow("ask", Exceeded::Ask), &json!(150)).await;
        assert!(client.questions(Some(asks.id())).await.unwrap()[0].question.as_ref().unwrap().contains("Budget ask"));
        asks.approve("a", "anna").await.unwrap();
        assert_eq!(ended(&asks).await.state, RunState::Completed);
        worker.stop().await;
    })
    .await;
}

/// Defers the first time, asks about much money, refuses the rest.
struct House;

impl Policy for House {
    fn check<'a>(&'a self, context: &'a StepContext, input: &'a Payload) -> BoxFuture<'a, Result<Verdict, StepError>> {
        Box::pin(async move {
            let amount: i64 = input.read()?;
            Ok(match amount {
                _ if context.fencing_token() == 1 => Verdict::Defer(Duration::from_millis(10), "let us think".into()),
                ..=100 => Verdict::Proceed,
                101..=1000 => Verdict::Ask(Box::new(Question::new(format!("Spend {amount}?")).value(amount))),
                _ => Verdict::Refuse("too much".into()),
            })
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_lets_proceed_defers_asks_or_refuses_before_the_handler_is_called() {
    with_database(|db| async move {
        let client = db.client().await;
        db.spawn_scheduler();
        let effects = Effects::default();
        let worker = db.spawn(simple_worker(&db, &effects).policy(House));
        let flow = Flow::new("f", 1).step(Step::new("a", "note").retry(once()));
        let small = start(&client, &flow, &json!(5)).await;
        assert_eq!(ended(&small).await.state, RunState::Completed);
        let attempts = client.attempts(small.id()).await.unwrap();
        assert_eq!(
            attempts.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(),
            ["deferred"],
            "and no attempt consumed"
        );

        let large = start(&client, &flow, &json!(5000)).await;
        assert_eq!(ended(&large).await.error.unwrap().read::<Value>().unwrap()["message"], "too much");

        let middle = start(&client, &flow, &json!(500)).await;
        eventually("the question", || async { !client.questions(Some(middle.id())).await.unwrap().is_empty() }).await;
        let question = client.questions(Some(middle.id())).await.unwrap().remove(0);
        assert_eq!((question.question.as_deref(), question.value.unwrap().as_str()), (Some("Spend 500?"), "500"));
        assert_eq!(middle.get().await.unwrap().state, RunState::Paused);
        assert_eq!(effects.count("a"), 1, "only the small one was done");
        middle.approve("a", "anna").await.unwrap();
        assert_eq!(ended(&middle).await.state, RunState::Completed);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_pauses_the_run_and_goes_on_right_there_with_data() {
    with_database(|db| async move {
        let client = db.client().await;
        let effects = Effects::default();
        let noted = Arc::new(effects.clone());
        let function = move |ctx: StepContext, _: Value| {
            let noted = noted.clone();
            async move {
                let before = ctx
                    .checkpoint("before", || async {
                        noted.add("before");
                        Ok(1)
                    })
                    .await?;
                let data: i64 = ctx
                    .interrupt("Which number?", &json!({ "so far": before }), Some(json!({ "asked": true })))
                    .await?;
                noted.add("after");
                Ok::<_, StepError>(before + data)
            }
        };
        let worker = db.spawn(simple_worker(&db, &effects).handler("function", function));
        let run = start(&client, &single("f", "function"), &json!(1)).await;
        eventually("the interrupt", || async { run.get().await.unwrap().state == RunState::Paused }).await;
        let question = client.questions(Some(run.id())).await.unwrap().remove(0);
        assert!(question.interrupt);
        assert_eq!(
            (question.question.as_deref(), question.value.unwrap().read::<Value>().unwrap()),
            (Some("Which number?"), json!({ "so far": 1 }))
        );
        assert_eq!(run.get().await.unwrap().metadata.unwrap().read::<Value>().unwrap(), json!({ "asked": true }));
        run.resume_with(&41).await.unwrap();
        assert_eq!(run.output::<i64>().await.unwrap(), 42);
        assert_eq!(effects.all(), ["before", "after"]);
        worker.stop().await;
    })
    .await;
}
