//! Databases of older versions, with live runs in them.

use longhaul::{Step, StepContext, StepError, migrate};
use serde_json::Value;

use crate::harness::{TestDb, eventually, with_database, within};

/// Rows as the first version left them: a flow of two steps, and a worker that is gone.
const FIRST_VERSION: &str = r#"
set search_path = longhaul;
do $$
declare
  v_week bigint := floor(extract(epoch from now() - interval '1 day') / 604800) * 604800;
  v_table text;
begin
  for i in 0 .. 1 loop
    foreach v_table in array array['run', 'step', 'attempt'] loop
      execute format('create table %s_%s partition of %s for values from (%L) to (%L)', v_table,
        to_char(to_timestamp(v_week + i * 604800) at time zone 'UTC', 'YYYYMMDD'), v_table,
        lpad(to_hex((v_week + i * 604800) * 1000), 12, '0') || '00000000000000000000',
        lpad(to_hex((v_week + (i + 1) * 604800) * 1000), 12, '0') || '00000000000000000000');
    end loop;
  end loop;
end $$;
insert into flow (tenant, name, version, definition, step_count, deployed_at) values ('default', 'two', 1,
  '{"name": "two", "version": 1, "description": null, "steps": [
     {"name": "a", "handler": "h", "queue": "default", "priority": 0, "after": [], "timeout_ms": null, "with": null,
      "retry": {"attempts": 5, "backoff_ms": 1000, "factor": 2, "cap_ms": 3600000, "jitter": 0.2}},
     {"name": "b", "handler": "h", "queue": "default", "priority": 0, "after": ["a"], "timeout_ms": null, "with": null,
      "retry": {"attempts": 5, "backoff_ms": 1000, "factor": 2, "cap_ms": 3600000, "jitter": 0.2}}]}', 2, now());
insert into queue (tenant, name, created_at) values ('default', 'default', now());
insert into lane (queue_id, handler) values (1, 'h');
insert into flow_step (flow_id, seq, name, lane_id, priority, predecessors, successors, max_attempts, backoff_ms, factor, cap_ms, jitter)
values (1, 0, 'a', 1, 0, 0, '{1}', 5, 1000, 2, 3600000, 0.2), (1, 1, 'b', 1, 0, 1, '{}', 5, 1000, 2, 3600000, 0.2);
insert into worker (tenant, name, host, pid, version, state, lease_ms, started_at, heartbeat_at, expires_at, slots, queues, handlers)
values ('default', 'old', 'old', 1, '0.1.0', 'active', 1000, now(), now(), now(), 1, '{default}', '{h}');
"#;

#[tokio::test(flavor = "multi_thread")]
async fn live_runs_of_the_first_version_go_on_in_the_present_one() {
    let db = TestDb::create_empty().await;
    migrate::make_tables_of(&db.database, 1).await.unwrap();
    db.execute(FIRST_VERSION).await;
    let ids: Vec<uuid::Uuid> = (0..6).map(|_| uuid::Uuid::now_v7()).collect();
    for (number, id) in ids.iter().enumerate() {
        let open = if number == 4 { 0 } else { 2 - i32::from(number == 3) };
        let state = if number == 4 { "failed" } else { "running" };
        db.execute(&format!(
            "set search_path = longhaul;
             insert into run (id, created_at, ended_at, start_at, flow_id, open_steps, state, tenant, input)
             values ('{id}', now(), {ended}, {start}, 1, {open}, '{state}', 'default', '{number}');
             insert into step (run_id, seq, lane_id, blockers, priority, attempt, outcome, output, error, ended_at)
             values ('{id}', 0, 1, 0, 0, {attempt}, {first}, {output}, null, {ended}), ('{id}', 1, 1, {blockers}, 0, null, {second}, null, null, {ended})",
            ended = if number == 4 { "now()" } else { "null" },
            start = if number == 5 { "now() + interval '1 hour'" } else { "null" },
            attempt = if (3..5).contains(&number) { "1" } else { "null" },
            first = match number { 3 => "'completed'", 4 => "'failed'", _ => "null" },
            output = if number == 3 { "'\"of the first version\"'" } else { "null" },
            second = if number == 4 { "'cancelled'" } else { "null" },
            blockers = i32::from(number != 3),
        ))
        .await;
        let room = match number {
            0 => format!("insert into task (run_id, position, lane_id, seq, attempt, priority, failures) values ('{id}', 0, 1, 0, 0, 0, 0)"),
            1 => format!("insert into lease (run_id, worker_id, claimed_at, seq, attempt, failures) values ('{id}', 1, now(), 0, 1, 0)"),
            2 => format!("insert into timer (run_id, fire_at, seq, attempt, failures, kind) values ('{id}', now(), 0, 1, 1, 'retry');
                          insert into attempt values ('{id}', now(), now(), 1, 0, 1, 'failed', null)"),
            3 => format!("insert into task (run_id, position, lane_id, seq, attempt, priority, failures) values ('{id}', 0, 1, 1, 0, 0, 0)"),
            4 => format!("insert into attempt values ('{id}', now(), now(), 1, 0, 1, 'failed', null)"),
            _ => format!("insert into timer (run_id, fire_at, seq, attempt, failures, kind) values ('{id}', now() + interval '1 hour', 0, 0, 0, 'start')"),
        };
        db.execute(&format!("set search_path = longhaul; {room}")).await;
    }

    let migrated = migrate::migrate(&db.database).await.unwrap();
    assert!(migrated.applied.len() >= 2 && migrated.functions);
    db.assert_rooms_are_sound().await;
    let client = db.client().await;
    let echo = |_: StepContext, input: Value| async move { Ok::<_, StepError>(input) };
    let worker = db.spawn(db.worker().handler("h", echo));
    db.spawn_scheduler();
    client.run(ids[4]).retry().await.unwrap();
    client.run(ids[5]).start().await.unwrap();
    for (number, id) in ids.iter().enumerate() {
        let output: usize = within("a run of the first version", client.run(*id).output()).await.unwrap();
        assert_eq!(output, number);
    }
    // What was deployed then is still what it was, and new things work beside it.
    let again = longhaul::Flow::new("two", 1)
        .step(longhaul::Step::new("a", "h"))
        .step(longhaul::Step::new("b", "h").after("a"));
    assert!(!client.deploy(&again).await.unwrap().created);
    let fork = client.run(ids[0]).fork("b").await.unwrap();
    within("the fork", fork.output::<usize>()).await.unwrap();
    eventually("nothing is left", || async {
        db.value::<i64>("select count(*) from longhaul.run where open_steps > 0").await == 0
    })
    .await;
    db.assert_rooms_are_sound().await;
    worker.stop().await;
    db.drop_database().await;
}

/// The statements that workers of the release before send, as they stand in its source, with the types that the server gave their
/// parameters and columns then. They are sent unchanged to the schema of this release for as long as such workers run.
const OF_THE_RELEASE_BEFORE: &[(&str, &str, &str)] = &[
    (
        "select worker_id, channel from longhaul.register_worker($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        "text text text int4 text _text _text int4 int8",
        "int8 text",
    ),
    ("select longhaul.listen_for($1, $2)", "int8 _text", "void"),
    ("select longhaul.stop_listening($1, $2)", "int8 _text", "void"),
    ("select * from longhaul.claim($1, $2, $3)", "int8 _text _int4", "uuid int4 int4 int2 int4 text jsonb int4"),
    (
        "select * from longhaul.forgotten_leases($1, $2, $3)",
        "int8 _uuid _int4",
        "uuid int4 int4 int2 int4 text jsonb int4",
    ),
    ("select * from longhaul.heartbeat($1, $2, $3, $4)", "int8 _uuid _int4 _int4", "uuid int4 int4"),
    ("select * from longhaul.complete($1, $2, $3, $4, $5)", "int8 _uuid _int4 _int4 _jsonb", "uuid int4 int4 text"),
    (
        "select * from longhaul.end_attempts($1, $2, $3, $4, $5::text[]::longhaul.attempt_outcome[], $6, $7, $8)",
        "int8 _uuid _int4 _int4 _text _jsonb _bool _int8",
        "uuid int4 int4 text",
    ),
    ("select * from longhaul.suspend($1, $2, $3, $4, $5)", "int8 _uuid _int4 _int4 _jsonb", "uuid int4 int4 text"),
    (
        "select path, kind, name, answer::text, value from longhaul.history($1, $2)",
        "uuid int4",
        "text text text text jsonb",
    ),
    ("select longhaul.drain_worker($1)", "int8", "void"),
    ("select longhaul.deregister_worker($1)", "int8", "int8"),
    (
        "select id, refusal from longhaul.start_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, p_deadlines_ms => $11)",
        "text text int4 _uuid _jsonb _text _int4 _timestamptz _int8 _jsonb _int8",
        "uuid text",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_the_release_before_find_their_functions() {
    with_database(|db| async move {
        let connection = db.database.connection().await.unwrap();
        let mut statements = Vec::new();
        for (sql, parameters, columns) in OF_THE_RELEASE_BEFORE {
            let statement = connection.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            let names = |types: Vec<&str>| types.join(" ");
            assert_eq!(names(statement.params().iter().map(|t| t.name()).collect()), *parameters, "{sql}");
            assert_eq!(names(statement.columns().iter().map(|c| c.type_().name()).collect()), *columns, "{sql}");
            statements.push(statement);
        }
        // And they do what they did: a step by nothing but these.
        db.deploy_single("one", longhaul::Step::new("a", "h")).await;
        let run = db.client().await.start("one", &1).await.unwrap();
        let queues = vec!["default"];
        let worker: i64 = connection
            .query_one(&statements[0], &[&"default", &"old", &"host", &1, &"0.0", &queues, &vec!["h"], &1, &60_000_i64])
            .await
            .unwrap()
            .get(0);
        let claimed = connection.query(&statements[3], &[&worker, &queues, &vec![1]]).await.unwrap();
        let (runs, seqs, attempts) = (vec![claimed[0].get::<_, uuid::Uuid>(0)], vec![0], vec![1]);
        assert!(connection.query(&statements[5], &[&worker, &runs, &seqs, &attempts]).await.unwrap().is_empty());
        let outputs = vec![serde_json::json!("done")];
        let refused = connection.query(&statements[6], &[&worker, &runs, &seqs, &attempts, &outputs]).await.unwrap();
        assert!(refused.is_empty());
        assert_eq!(run.output::<String>().await.unwrap(), "done");
    })
    .await;
}

/// Its functions and views as stubs: what the server refuses to replace it refuses by name, arguments, result and columns.
const RELEASED_VERSION: &str = include_str!("released_version.sql");

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_and_views_of_the_release_before_are_replaced() {
    let db = TestDb::create_empty().await;
    migrate::make_tables_of(&db.database, 6).await.unwrap();
    db.execute(RELEASED_VERSION).await;
    assert!(migrate::migrate(&db.database).await.unwrap().functions);
    let client = db.client().await;
    let worker = db.spawn(db.worker().handler("h", crate::harness::nothing));
    db.deploy_single("one", Step::new("a", "h")).await;
    within("the run", client.start("one", &1).await.unwrap().output::<()>()).await.unwrap();
    worker.stop().await;
    db.drop_database().await;
}
