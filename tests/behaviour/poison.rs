//! One bad item stops nobody else: neither its batch, nor its worker, nor the fleet.

use std::time::Duration;

use longhaul::{Flow, Retry, Step, StepContext, StepError, WorkerBuilder, calls::RunState};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestDb, eventually, with_database, within};

/// A worker that does `good` steps at once, and `bad` ones as a test says.
fn worker<F, Fut>(db: &TestDb, bad: F) -> WorkerBuilder
where
    F: Fn(StepContext, Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, StepError>> + Send + 'static,
{
    db.worker()
        .handler("good", |_: StepContext, input: Value| async move { Ok::<_, StepError>(input) })
        .handler("bad", bad)
        .queue("default", 50)
}

/// Starts bad runs and then good ones, and waits until the good ones have completed.
async fn good_ones_complete(db: &TestDb) -> Vec<Uuid> {
    let client = db.client().await;
    let retry = Retry::fixed(2, Duration::from_millis(1));
    for handler in ["bad", "good"] {
        client.deploy(&Flow::new(handler, 1).step(Step::new("a", handler).retry(retry.clone()))).await.unwrap();
    }
    let bad = client.start_many("bad", 0..2).await.unwrap().ids();
    eventually("the bad steps are claimed", || async {
        db.value::<bool>("select not exists (select from longhaul.task)").await
    })
    .await;
    client.start_many("good", 0..60).await.unwrap();
    eventually("the good runs have completed", || async {
        db.value::<i64>(
            "select count(*) from longhaul.run r join longhaul.flow f on f.id = r.flow_id where f.name = 'good' and r.state = 'completed'",
        )
        .await
            == 60
    })
    .await;
    bad
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_ever_is_a_very_long_one_and_harms_nobody() {
    with_database(|db| async move {
        let worker = db.spawn(worker(&db, |_, n: Value| async move {
            match n.as_i64() {
                Some(0) => Err(StepError::snooze(Duration::MAX)),
                _ => Err(StepError::retry_after(Duration::from_secs(1_000_000_000_000_000), "much later")),
            }
        }));
        good_ones_complete(&db).await;
        let asleep = "select count(*) from longhaul.timer where fire_at > longhaul.clock() + interval '9999 days'";
        eventually("the others sleep for very long", || async { db.value::<i64>(asleep).await == 2 }).await;
        assert_eq!(within("the shutdown", worker.stop()).await.lost, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_stored_is_a_failed_attempt_with_the_reason() {
    with_database(|db| async move {
        db.execute(
            "alter table longhaul.attempt add constraint no_poison check (error ->> 'code' is distinct from 'poison')",
        )
        .await;
        db.spawn_scheduler();
        let worker = db.spawn(worker(&db, |_, _| async { Err(StepError::retry("bad").code("poison")) }));
        let client = db.client().await;
        for run in good_ones_complete(&db).await {
            let ended = within("the bad run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().unwrap();
            assert_eq!(ended.state, RunState::Failed);
            let attempts = client.attempts(run).await.unwrap();
            assert_eq!(attempts.len(), 2, "as many as the step has");
            for attempt in attempts {
                assert!(attempt.error.unwrap().as_str().contains("the end of the attempt cannot be stored"));
            }
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_the_database_refuses_in_its_own_way_fails_its_step_and_is_not_logged() {
    with_database(|db| async move {
        db.execute("alter table longhaul.step add constraint no_poison check (output ->> 'poison' is null)").await;
        let worker = db.spawn(worker(&db, |_, _| async { Ok(json!({ "poison": "a secret" })) }));
        let client = db.client().await;
        for run in good_ones_complete(&db).await {
            let ended = within("the bad run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().unwrap();
            assert_eq!(ended.state, RunState::Failed);
            let error = ended.error.unwrap();
            assert!(
                error.as_str().contains("the output cannot be stored") && error.as_str().contains("23514"),
                "{error:?}"
            );
            assert!(!error.as_str().contains("a secret"), "{error:?}");
        }
        assert_eq!(worker.stop().await.settled, 62);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_attempt_can_be_ended_in_no_way_is_given_up_and_the_chores_find_it() {
    with_database(|db| async move {
        // Nothing of these runs can be written down, whatever it is.
        db.execute(
            "create function public.poison() returns trigger language plpgsql as $$
             begin
               if exists (select from longhaul.run r join longhaul.flow f on f.id = r.flow_id where r.id = new.run_id and f.name = 'bad')
                  and current_setting('poison.off', true) is null then
                 raise exception 'not this one';
               end if;
               return new;
             end $$;
             create trigger poison before insert on longhaul.attempt for each row execute function public.poison()",
        )
        .await;
        let worker = db.spawn(worker(&db, |_, _| async { Err(StepError::retry("bad")) }));
        let bad = good_ones_complete(&db).await;
        eventually("nobody owns the bad steps", || async {
            db.value::<i64>("select count(*) from longhaul.lease where worker_id = 0").await == bad.len() as i64
        })
        .await;
        let summary = within("the shutdown", worker.stop()).await;
        assert_eq!((summary.settled, summary.lost), (60, bad.len() as u64));
        // Once it can be written down, the attempts have expired.
        db.execute("begin; set local poison.off = 'on'; select longhaul.free_orphans(); commit").await;
        assert_eq!(db.client().await.attempts(bad[0]).await.unwrap()[0].outcome, "expired");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_that_the_database_refuses_fails_its_own_step_only() {
    with_database(|db| async move {
        db.execute("alter table longhaul.wait add constraint no_poison check (topic is distinct from 'poison')").await;
        let worker = db.spawn(worker(&db, |ctx: StepContext, _| async move { ctx.signal("poison").await }));
        let client = db.client().await;
        for run in good_ones_complete(&db).await {
            let ended = within("the bad run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().unwrap();
            assert_eq!(ended.state, RunState::Failed);
            assert!(ended.error.unwrap().as_str().contains("no_poison"));
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_and_a_progress_that_the_database_refuses_harm_no_others() {
    with_database(|db| async move {
        db.execute(
            "alter table longhaul.checkpoint add constraint no_poison check (value #>> '{}' is distinct from 'poison');
             alter table longhaul.progress add constraint no_poison check (key <> 'poison')",
        )
        .await;
        let worker = db.spawn(worker(&db, |ctx: StepContext, _| async move {
            ctx.report("poison", &1).await?;
            ctx.report("fine", &1).await?;
            ctx.checkpoint("c", || async { Ok("poison".to_owned()) }).await?;
            Ok(Value::Null)
        }));
        let client = db.client().await;
        for run in good_ones_complete(&db).await {
            let ended = within("the bad run", client.run(run).wait(Duration::from_secs(60))).await.unwrap().unwrap();
            assert!(ended.error.unwrap().as_str().contains("c cannot be stored"));
        }
        eventually("what was fine is stored", || async {
            db.value::<i64>("select count(*) from longhaul.progress where key = 'fine'").await == 2
        })
        .await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_calls_were_answered_by_nonsense_for_a_while_loses_no_step() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("good", 1).step(Step::new("a", "good"))).await.unwrap();
        let worker = db.spawn(worker(&db, |_, _| async { Ok(Value::Null) }));
        within("the first run", client.start("good", &1).await.unwrap().output::<i64>()).await.unwrap();

        // As in the middle of an upgrade that somebody makes by hand.
        let arguments = "bigint, uuid[], integer[], integer[], jsonb[], boolean";
        db.execute(&format!(
            "create sequence public.answers;
             alter function longhaul.complete({arguments}) rename to complete_elsewhere;
             create function longhaul.complete({arguments}) returns table (run_id text, seq text, attempt text, refusal text)
             language sql as $$select 'not', 'what', 'was', 'asked' from nextval('public.answers')$$"
        ))
        .await;
        client.start_many("good", 0..3).await.unwrap();
        eventually("it has got such an answer", || async { db.value::<bool>("select is_called from public.answers").await })
            .await;
        db.execute(&format!(
            "drop function longhaul.complete({arguments});
             alter function longhaul.complete_elsewhere({arguments}) rename to complete"
        ))
        .await;

        client.start_many("good", 0..10).await.unwrap();
        db.until_all_completed().await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_else_holds_delays_no_other() {
    with_database(|db| async move {
        let worker = db.spawn(worker(&db, |_, _| async { Ok(Value::Null) }).lease(Duration::from_secs(60)));
        let client = db.client().await;
        for handler in ["bad", "good"] {
            client.deploy(&Flow::new(handler, 1).step(Step::new("a", handler))).await.unwrap();
        }
        // An operator's transaction that stays open.
        let mut connection = db.database.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        let held = Uuid::now_v7();
        client
            .start_with("bad", longhaul::Start::new(&1).unwrap().id(held).delay(Duration::from_millis(1)))
            .await
            .unwrap();
        transaction.execute("select longhaul.lock_runs(array[$1::uuid])", &[&held]).await.unwrap();
        eventually("its step is claimed", || async {
            db.execute("select longhaul.fire_timers()").await;
            db.value::<i64>("select count(*) from longhaul.lease").await == 1
        })
        .await;
        for _ in 0..5 {
            client.start_many("good", 0..40).await.unwrap();
            eventually("the others complete", || async {
                db.value::<i64>("select count(*) from longhaul.lease").await == 1
                    && db.value::<bool>("select not exists (select from longhaul.task)").await
            })
            .await;
        }
        transaction.rollback().await.unwrap();
        db.until_all_completed().await;
        let summary = within("the shutdown", worker.stop()).await;
        assert_eq!((summary.settled, summary.lost), (201, 0));
    })
    .await;
}
