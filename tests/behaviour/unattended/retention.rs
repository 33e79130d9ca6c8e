//! Retention: deletes what the policies say, and nothing that is alive.

use std::time::Duration;

use longhaul::{
    Error, Flow, Payload, Start, Step, Unique, WaitSignal,
    calls::{NewSignal, RetentionPolicy, RunFilter, RunState},
};
use serde_json::Value;

use crate::harness::{TestDb, with_database};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn policy(name: &str, state: Option<RunState>, age: Duration) -> RetentionPolicy {
    RetentionPolicy { name: name.into(), state, flow: None, age, keep_last: 0, archive: false }
}

/// Makes all ids and times so much older, as if that time had passed.
pub(super) async fn age(db: &TestDb) {
    db.execute(
        "set search_path = longhaul;
         do $$
         declare
           v_table text;
         begin
           -- Ids carry real time, which a test cannot move: the runs are moved to ids of forty days ago.
           create temp table moved as
             select id, (lpad(to_hex((extract(epoch from now() - interval '40 days') * 1000)::bigint), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid as old from run;
           foreach v_table in array array['step', 'own_step', 'blocked', 'attempt', 'checkpoint', 'event', 'fan_out', 'task', 'lease', 'timer', 'wait', 'held', 'queued', 'dead_letter', 'signal', 'start_key'] loop
             execute format('update %I x set run_id = m.old from moved m where x.run_id = m.id', v_table);
           end loop;
           update wait w set child_id = m.old from moved m where w.child_id = m.id;
           update run r set parent_id = m.old from moved m where r.parent_id = m.id;
           update run r set id = m.old, created_at = created_at - interval '40 days', ended_at = ended_at - interval '40 days' from moved m where r.id = m.id;
           drop table moved;
         end $$",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_alive_is_touched_in_any_state_or_relation() {
    with_database(|db| async move {
        let client = db.client().await;
        let calls = db.calls().await;
        client.deploy(&Flow::new("leaf", 1).step(Step::new("a", "nobody"))).await.unwrap();
        client.deploy(&Flow::new("parent", 1).step(Step::child("c", "leaf"))).await.unwrap();
        client.deploy(&Flow::new("waits", 1).step(Step::wait_signal("w", WaitSignal::new("t")))).await.unwrap();
        client.deploy(&Flow::new("each", 1).step(Step::new("e", "nobody").for_each("$.input"))).await.unwrap();
        let live = [
            client.start("leaf", &1).await.unwrap(),
            client.start("parent", &1).await.unwrap(),
            client.start("waits", &1).await.unwrap(),
            client.start("each", &[1, 2, 3]).await.unwrap(),
            client.start_with("leaf", Start::new(&1).unwrap().delay(DAY)).await.unwrap(),
            client.start_with("leaf", Start::new(&1).unwrap().create_only()).await.unwrap(),
            client.start_with("leaf", Start::new(&1).unwrap().unique("k", Unique::WhileLive)).await.unwrap(),
        ];
        let paused = client.start("leaf", &1).await.unwrap();
        paused.pause().await.unwrap();
        let ended = client.start("waits", &1).await.unwrap();
        ended.send(NewSignal { ..NewSignal::new("other", Payload::null()) }).await.unwrap();
        ended.stop().await.unwrap();
        age(&db).await;
        calls.put_retention_policy("default", &policy("all", None, DAY)).await.unwrap();
        assert_eq!(calls.retention_plan("default").await.unwrap()[0].runs, 1);
        assert_eq!(db.value::<i64>("select longhaul.run_retention()").await, 1);
        assert_eq!(db.value::<i64>("select longhaul.run_retention()").await, 0);
        let states = client.list(&RunFilter { limit: 100, ..Default::default() }).await.unwrap();
        assert_eq!(states.len(), live.len() + 2, "with the child and the paused one: {states:?}");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.signal").await, 0, "the deleted run's signal went with it");
        for table in ["step", "event", "attempt"] {
            let orphans: i64 = db.value(&format!("select count(*) from longhaul.{table} x where not exists (select from longhaul.run r where r.id = x.run_id)")).await;
            assert_eq!(orphans, 0, "{table}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_choose_by_state_flow_age_and_keep_the_last() {
    with_database(|db| async move {
        let client = db.client().await;
        let calls = db.calls().await;
        for flow in ["f", "g"] {
            db.deploy_single(flow, Step::new("a", "h")).await;
            for id in client.start_many(flow, 0..10).await.unwrap().ids() {
                client.run(id).stop().await.unwrap();
            }
        }
        age(&db).await;
        let plan = |p: RetentionPolicy| {
            let db = db.clone();
            async move {
                let calls = db.calls().await;
                calls.put_retention_policy("default", &p).await.unwrap();
                calls.retention_plan("default").await.unwrap().first().map_or(0, |plan| plan.runs)
            }
        };
        assert_eq!(plan(policy("p", Some(RunState::Failed), DAY)).await, 0);
        assert_eq!(plan(policy("p", Some(RunState::Cancelled), 41 * DAY)).await, 0);
        assert_eq!(plan(policy("p", Some(RunState::Cancelled), DAY)).await, 20);
        assert_eq!(plan(RetentionPolicy { flow: Some("f".into()), ..policy("p", None, DAY) }).await, 10);
        assert_eq!(plan(RetentionPolicy { keep_last: 3, ..policy("p", None, DAY) }).await, 14);
        let other = calls.retention_plan("other").await.unwrap();
        assert!(other.is_empty(), "policies are their tenant's");
        assert_eq!(db.value::<i64>("select longhaul.run_retention(null, 5)").await, 5, "batches are bounded");
        db.spawn_scheduler();
        crate::harness::eventually("the chore does the rest", || async {
            db.value::<i64>("select count(*) from longhaul.run").await == 6
        })
        .await;
        let stats = calls.retention_stats("default").await.unwrap();
        assert_eq!((stats[0].kind.as_str(), stats[0].total, stats[0].older), ("runs", 6, 6));
        assert!(matches!(
            calls.put_retention_policy("default", &policy("p p", None, DAY)).await,
            Err(Error::Invalid(_))
        ));
        assert!(matches!(calls.delete_retention_policy("default", "nothing").await, Err(Error::NotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_retried_while_it_is_to_be_deleted_stays() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let run = client.start("f", &1).await.unwrap();
        run.stop().await.unwrap();
        run.retry().await.unwrap();
        assert_eq!(db.calls().await.delete_runs(&[run.id()]).await.unwrap(), 0);
        run.stop().await.unwrap();
        let archived: Value = db.calls().await.archived_runs(&[run.id()]).await.unwrap()[0].read().unwrap();
        assert_eq!((&archived["flow"], &archived["steps"][0]["name"]), (&"f".into(), &"a".into()));
        assert!(archived["events"].as_array().unwrap().len() >= 3);
        assert_eq!(db.calls().await.delete_runs(&[run.id()]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_which_nothing_is_wanted_is_dropped_and_one_with_a_live_run_stays() {
    with_database(|db| async move {
        let client = db.client().await;
        db.execute(
            "select longhaul.make_partition(t, date_trunc('day', now()) - interval '42 days', date_trunc('day', now()) - interval '35 days')
             from unnest(array['run', 'step', 'attempt', 'fan_out', 'checkpoint', 'event']) t",
        )
        .await;
        db.deploy_single("f", Step::new("a", "nobody")).await;
        let ids = client.start_many("f", 0..100).await.unwrap().ids();
        for id in &ids[1..] {
            client.run(*id).stop().await.unwrap();
        }
        age(&db).await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run_default").await, 0);
        let calls = db.calls().await;
        let drop = "select longhaul.drop_partitions()";
        assert_eq!(db.value::<i64>(drop).await, 0, "no policy wants them gone");
        calls.put_retention_policy("default", &policy("all", None, DAY)).await.unwrap();
        assert_eq!(db.value::<i64>(drop).await, 0, "one run lives");
        let alive = client.list(&RunFilter { state: Some(RunState::Running), ..Default::default() }).await.unwrap()[0].id;
        client.run(alive).stop().await.unwrap();
        assert_eq!(db.value::<i64>(drop).await, 0, "it ended just now");
        db.execute("select longhaul.advance_clock('2 days')").await;
        let before: i64 = db.value("select count(*) from pg_inherits where inhparent = 'longhaul.run'::regclass").await;
        assert_eq!(db.value::<i64>(drop).await, 1);
        assert_eq!(db.value::<i64>("select count(*) from pg_inherits where inhparent = 'longhaul.run'::regclass").await, before - 1);
        assert_eq!(db.value::<i64>("select (select count(*) from longhaul.run) + (select count(*) from longhaul.step)").await, 0);
        client.start("f", &1).await.unwrap();
    })
    .await;
}
