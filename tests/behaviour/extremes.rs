//! Whatever a database can hold, nothing that reads it stops: not a client, not a scheduler, not for the rows beside it.

use std::time::Duration;

use longhaul::{
    Error, Flow, Schedule, Step,
    calls::{DeadLetterFilter, NewSignal, RetentionPolicy, RunFilter, StepKey},
};

use crate::{
    harness::{TestDb, eventually, with_database, within},
    starting::play_worker,
};

/// Writes a value into every column of a type, in every table, wherever a constraint does not refuse it. Keys are left alone, and
/// what the chores go by.
const INTO_EVERY_COLUMN: &str = "
do $do$
declare
  v_column record;
  v_written integer := 0;
begin
  for v_column in
    select c.oid::regclass as name, a.attname from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'longhaul'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and a.atttypid::regtype::text = '$TYPE' and c.relname not in ('setting', 'schema_history', 'chore')
      and not exists (select from pg_index i where i.indrelid = c.oid and a.attnum = any (i.indkey) and i.indisunique)
      and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'f' and a.attnum = any (k.conkey))
      and a.attname::text <> all (array['flow_id', 'lane_id', 'worker_id', 'parent_id', 'run_id', 'queue_id', 'seq', 'open_steps', 'def', 'id'])
  loop
    begin
      execute format('update %s set %I = %L', v_column.name, v_column.attname, $VALUE);
      v_written := v_written + 1;
    exception when others then
      null;
    end;
  end loop;
  if v_written = 0 then
    raise exception 'the value was written nowhere';
  end if;
end $do$";

async fn everywhere(db: &TestDb, kind: &str, value: &str) {
    db.execute(&INTO_EVERY_COLUMN.replace("$TYPE", kind).replace("$VALUE", &format!("'{value}'"))).await;
}

/// An installation in which every list has something to show.
async fn fill(db: &TestDb) -> (uuid::Uuid, i64) {
    let client = db.client().await;
    let flow = Flow::new("one", 1)
        .step(Step::new("a", "h").retry(longhaul::Retry { attempts: 1, ..Default::default() }))
        .step(Step::new("b", "h").timeout(Duration::from_secs(60)).after("a"));
    client.deploy(&flow).await.unwrap();
    let asks = longhaul::Approval::ask("go on?");
    client.deploy(&Flow::new("asks", 1).step(Step::new("a", "h").approval(asks))).await.unwrap();
    client.schedule(&Schedule::new("nightly", "0 3 * * *", "one")).await.unwrap();
    client
        .limit_queue("default", &longhaul::calls::QueueLimits { max_running: Some(5), ..Default::default() })
        .await
        .unwrap();
    client.try_lock("a", "me", Duration::from_secs(60)).await.unwrap();
    let calls = db.calls().await;
    let policy = RetentionPolicy {
        name: "p".into(),
        state: None,
        flow: None,
        age: Duration::from_secs(86_400),
        keep_last: 0,
        archive: false,
    };
    calls.put_retention_policy("default", &policy).await.unwrap();

    let run = client.start("one", &1).await.unwrap();
    client.start("asks", &1).await.unwrap();
    client.start_with("one", longhaul::Start::new(&1).unwrap().delay(Duration::from_secs(3600))).await.unwrap();
    calls.send_signal("default", "k", &NewSignal::new("t", longhaul::Payload::null())).await.unwrap();
    calls.signal_run("default", run.id(), &NewSignal::new("t", longhaul::Payload::null())).await.unwrap();
    let worker = play_worker(db, &["h"]).await;
    let claimed = calls.claim(worker, &["default"], &[10]).await.unwrap();
    let failed = claimed.iter().find(|c| c.key.step.run_id == run.id()).unwrap().key;
    db.execute(&format!(
        "select longhaul.fail({worker}, array['{}'::uuid], array[{}], array[{}], array['{{\"message\": \"no\"}}'::jsonb])",
        failed.step.run_id, failed.step.seq, failed.attempt
    ))
    .await;
    (run.id(), worker)
}

/// Every call that reads. None may fail for a value; only the database itself may refuse to add such values up.
async fn read_everything(db: &TestDb, run: uuid::Uuid, worker: i64, with: &str) {
    let calls = db.calls().await;
    let mut failed: Vec<String> = Vec::new();
    let mut look = |what: &str, outcome: Result<usize, Error>| match outcome {
        Ok(_) | Err(Error::Invalid(_) | Error::NotFound(_) | Error::Refused(_)) => {}
        Err(error) => failed.push(format!("{what}: {error}")),
    };
    let tenant = "default";
    look("get_run", calls.get_run(tenant, run).await.map(|_| 1));
    look("list_runs", calls.list_runs(&RunFilter::default()).await.map(|l| l.len()));
    look("run_states", calls.run_states(tenant, &[run]).await.map(|l| l.len()));
    look("run_output", calls.run_output(run).await.map(|_| 1));
    look("list_steps", calls.list_steps(run).await.map(|l| l.len()));
    look("step_output", calls.step_output(run, "a").await.map(|_| 1));
    look("list_attempts", calls.list_attempts(run).await.map(|l| l.len()));
    look("item_outputs", calls.item_outputs(run, "a", 0, 10).await.map(|l| l.len()));
    look("timeline", calls.timeline(run).await.map(|l| l.len()));
    look("why", calls.why(run, "a").await.map(|_| 1));
    look("list_flows", calls.list_flows(tenant).await.map(|l| l.len()));
    look("flow_steps", calls.flow_steps(1).await.map(|l| l.len()));
    look("live_versions", calls.live_versions(tenant, "one").await.map(|l| l.len()));
    look("list_queues", calls.list_queues(tenant).await.map(|l| l.len()));
    look("queue_figures", calls.queue_figures(tenant).await.map(|l| l.len()));
    look("list_progress", calls.list_progress(run).await.map(|l| l.len()));
    look("list_locks", calls.list_locks(tenant, false).await.map(|l| l.len()));
    look("list_signals", calls.list_signals(run).await.map(|l| l.len()));
    look("questions", calls.questions(tenant, None).await.map(|l| l.len()));
    look("dead_letters", calls.dead_letters(&DeadLetterFilter::of(tenant)).await.map(|l| l.len()));
    look("list_schedules", calls.list_schedules(tenant).await.map(|l| l.len()));
    look("next_tick", calls.next_tick(chrono::Utc::now()).await.map(|_| 1));
    look("policies", calls.list_retention_policies(tenant).await.map(|l| l.len()));
    look("retention_plan", calls.retention_plan(tenant).await.map(|l| l.len()));
    look("retention_stats", calls.retention_stats(tenant).await.map(|l| l.len()));
    look("archived_runs", calls.archived_runs(&[run]).await.map(|l| l.len()));
    look("history", calls.history(StepKey { run_id: run, seq: 0 }).await.map(|l| l.len()));
    look("room_violations", calls.room_violations().await.map(|l| l.len()));
    look("overdue_chores", calls.overdue_chores().await.map(|l| l.len()));
    look("unserved_lanes", calls.unserved_lanes().await.map(|l| l.len()));
    look("figures", calls.figures().await.map(|_| 1));
    look("overdue_processes", calls.overdue_processes("h", &[1], Duration::from_secs(60)).await.map(|l| l.len()));
    look("heartbeat", calls.heartbeat(worker, std::iter::empty()).await.map(|l| l.len()));
    assert!(failed.is_empty(), "with {with} everywhere: {failed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_in_any_column_stops_a_call_that_reads_it() {
    let db = TestDb::create_empty().await;
    longhaul::migrate::migrate(&db.database).await.unwrap();
    let (run, worker) = fill(&db).await;
    read_everything(&db, run, worker, "usual values").await;
    for (kind, values) in [
        (
            "timestamp with time zone",
            &["infinity", "-infinity", "294276-12-31 23:59:59+00", "4713-01-01 00:00:00+00 BC"][..],
        ),
        ("bigint", &["9223372036854775807", "-9223372036854775808"]),
        ("integer", &["2147483647", "-2147483648"]),
        ("smallint", &["32767"]),
        ("double precision", &["NaN", "Infinity", "-Infinity", "1e308"]),
        ("interval", &["36500 days"]),
        ("text", &["", "\u{1}\u{202e}\u{ffff}"]),
        ("jsonb", &["null", "[]", "\"text\"", "{\"a\": 1e300}"]),
    ] {
        for value in values {
            everywhere(&db, kind, value).await;
            read_everything(&db, run, worker, &format!("{kind} {value}")).await;
        }
    }
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_time_beyond_all_calendars_hides_no_other() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("one", Step::new("a", "h")).await;
        for name in ["far", "near"] {
            client.schedule(&Schedule::new(name, "0 3 * * *", "one")).await.unwrap();
        }
        db.execute("update longhaul.schedule set ends_at = 'infinity', starts_at = '-infinity' where name = 'far'")
            .await;
        let schedules = client.schedules().await.unwrap();
        assert_eq!(schedules.len(), 2);
        assert_eq!(schedules[0].ends_at.unwrap().to_rfc3339(), "9999-12-31T23:59:59.999999+00:00");

        let runs = client.start_many("one", 0..3).await.unwrap().ids();
        db.execute(&format!("update longhaul.run set start_at = '-infinity' where id = '{}'", runs[0])).await;
        db.execute(&format!("update longhaul.run set start_at = '294276-01-01' where id = '{}'", runs[1])).await;
        assert_eq!(client.list(&RunFilter::default()).await.unwrap().len(), 3);

        // And the schedulers go on.
        db.execute("update longhaul.schedule set next_at = longhaul.clock()").await;
        db.spawn_scheduler();
        eventually("both have fired", || async {
            db.value::<i64>("select count(distinct schedule_id) from longhaul.schedule_tick").await == 2
        })
        .await;
        db.execute("update longhaul.run set start_at = null").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_shape_is_an_error_that_names_the_column() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let worker = play_worker(&db, &["h"]).await;
        let run = db.client().await.start("one", &1).await.unwrap();
        // As a half-made upgrade leaves it.
        db.execute(
            "alter function longhaul.heartbeat(bigint, uuid[], integer[], integer[]) rename to heartbeat_of_now;
             create function longhaul.heartbeat(bigint, uuid[], integer[], integer[]) returns table (run_id uuid, seq text, attempt text)
             language sql as $$select gen_random_uuid(), 'x', 'y'$$",
        )
        .await;
        let key = longhaul::calls::AttemptKey { step: StepKey { run_id: run.id(), seq: 0 }, attempt: 1 };
        let error = within("the heartbeat", db.calls().await.heartbeat(worker, std::iter::once(key))).await.unwrap_err();
        assert!(matches!(&error, Error::Corrupt(text) if text.contains("column seq of ")), "{error}");
    })
    .await;
}
