use std::time::Duration;

use serde_json::json;

use super::{End, TestStep};
use crate::{Question, Signalled, StepContext, StepError, branch};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_handler_goes_on_after_each_wait_and_does_nothing_twice() {
    let work = |ctx: StepContext, n: u32| async move {
        ctx.progress(u64::from(n), 3, "begun").await?;
        let first: u32 = ctx.checkpoint("first", || async move { Ok(n + 1) }).await?;
        ctx.sleep("a day", DAY).await?;
        let second: u32 = ctx.checkpoint("second", || async move { Ok(first * 10) }).await?;
        ctx.sleep("a week", DAY * 7).await?;
        ctx.start_child("mail", &second).await?;
        let packed: String = ctx.child("pack", &second).await?;
        Ok(format!("{second} {packed}"))
    };
    let done = TestStep::new().child("pack", &"packed").call(work, &1).await;
    assert_eq!((done.slept, done.calls), (DAY * 8, 4));
    assert_eq!(done.checkpoints(), ["first", "second"]);
    assert_eq!(done.checkpoint("second"), Some(json!(20)));
    assert_eq!(done.children, [("mail".to_owned(), json!(20)), ("pack".to_owned(), json!(20))]);
    assert_eq!(done.reported, [(String::new(), json!({ "done": 1, "of": 3, "message": "begun" }))]);
    assert_eq!(done.into_output(), "20 packed");
}

#[tokio::test]
async fn signals_questions_and_time_limits_are_answered_by_the_test() {
    let work = |ctx: StepContext, (): ()| async move {
        let reply: Signalled<String> = ctx.signal_within("reply", DAY).await?;
        let decision = ctx.ask(Question::new("Send?").expires(DAY, "reject")).await?;
        Ok((reply == Signalled::TimedOut, decision.choice, decision.by))
    };
    let silent = TestStep::new().call(work, &()).await;
    assert_eq!((silent.slept, silent.questions.as_slice()), (DAY * 2, &["Send?".to_owned()][..]));
    assert_eq!(silent.into_output(), (true, "reject".into(), "expiry".into()));

    let spoken = TestStep::new().signal("reply", &"yes").answer("approve", "ada").call(work, &()).await;
    assert_eq!(spoken.slept, Duration::ZERO);
    assert_eq!(spoken.into_output(), (false, "approve".into(), "ada".into()));
}

#[tokio::test]
async fn branches_race_in_the_time_of_the_test() {
    let work = |ctx: StepContext, (): ()| async move {
        ctx.race([
            branch(|ctx| async move { Ok(Some(ctx.signal::<u32>("answer").await?)) }),
            branch(|ctx| async move {
                ctx.sleep("patience", DAY).await?;
                Ok(None)
            }),
        ])
        .await
    };
    assert_eq!(TestStep::new().call(work, &()).await.into_output(), None);
    assert_eq!(TestStep::new().signal("answer", &7).call(work, &()).await.into_output(), Some(7));
}

#[tokio::test]
async fn what_the_test_does_not_give_is_named() {
    let waits = |ctx: StepContext, (): ()| async move { ctx.signal::<()>("paid").await };
    let End::Waiting(waits) = TestStep::new().call(waits, &()).await.end else { panic!("nothing was given") };
    assert_eq!(waits, ["signal \"paid\""]);

    let reads = |ctx: StepContext, (): ()| async move { ctx.output::<u32>("charge").await };
    let error = TestStep::new().call(reads, &()).await.into_error().to_string();
    assert!(error.contains(".output(\"charge\""), "{error}");
    assert!(TestStep::new().no_output("charge").call(reads, &()).await.into_error().to_string().contains("skipped"));
}

#[tokio::test]
async fn the_ways_to_end_are_told_apart() {
    let ends = |_: StepContext, how: String| async move {
        Err::<(), _>(match how.as_str() {
            "fail" => StepError::fail("no").code("c"),
            "retry" => StepError::retry("later"),
            "snooze" => StepError::snooze(DAY),
            "defer" => StepError::defer("busy"),
            "new" => StepError::continue_as_new(&7),
            _ => StepError::dispatched("printed", "7", None),
        })
    };
    let end = |how: &'static str| async move { TestStep::new().call(ends, &how).await.end };
    assert!(
        matches!(end("fail").await, End::Failed(error) if !error.is_retryable() && error.error_code() == Some("c"))
    );
    assert!(matches!(end("retry").await, End::Failed(error) if error.is_retryable()));
    assert!(matches!(end("snooze").await, End::Snoozed(DAY)));
    assert!(matches!(end("defer").await, End::Deferred(None)));
    assert!(matches!(end("new").await, End::ContinuedAsNew(input) if input == 7));
    assert!(matches!(end("print").await, End::Dispatched { topic, key } if topic == "printed" && key == "7"));
}

#[tokio::test]
async fn code_that_does_not_match_its_own_history_is_found() {
    use std::sync::atomic::{AtomicU32, Ordering};

    let calls = AtomicU32::new(0);
    let changes = |ctx: StepContext, (): ()| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            ctx.checkpoint(&format!("call {call}"), || async { Ok(()) }).await?;
            ctx.sleep("a day", DAY).await
        }
    };
    let error = TestStep::new().call(changes, &()).await.into_error();
    assert_eq!(error.error_code(), Some("history_mismatch"));
}

#[tokio::test]
async fn attempts_settings_state_and_the_outputs_of_items_are_as_the_test_says() {
    let work = |ctx: StepContext, (): ()| async move {
        let factor: u32 = *ctx.state::<u32>()?;
        let most: u32 = ctx.parameters()?;
        let items: Vec<Option<u32>> = ctx.item_outputs("count", 1, most).await?;
        let by = ctx.decision().await?.map(|decision| decision.by);
        Ok((ctx.attempt(), ctx.max_attempts(), factor, items, by))
    };
    let step = TestStep::new().attempt(3, 4).parameters(&2).state(9_u32).approved("approve", "ada");
    let done = step.item_outputs("count", [Some(1), None, Some(3), Some(4)]).call(work, &()).await;
    assert_eq!(done.into_output(), (3, 4, 9, vec![None, Some(3)], Some("ada".to_owned())));
}
