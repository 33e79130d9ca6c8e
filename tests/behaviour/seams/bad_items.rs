//! One bad item never stops another.

use serde_json::json;

use super::{
    child, chores, claim, claim_one, complete, deploy, fail, pass, sleep, start, state, suspend, wait, worker,
};
use crate::harness::with_database;

/// Times with and without a zone cannot be compared: an error of the data, which only the evaluation meets.
const COMPARES: &str = "$.input.items[*] ? (@.datetime() < \"2024-01-01T00:00:00+00:00\".datetime())";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_created_and_not_started_stops_no_sleep_and_no_retry() {
    with_database(|db| async move {
        deploy(&db, "templated", json!([{ "name": "a", "handler": "h", "input": "$.input" }]), json!({})).await;
        deploy(&db, "plain", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        deploy(&db, "nap", json!([{ "name": "a", "sleep": "1s" }]), json!({})).await;
        db.execute("select longhaul.create_run('templated'); select longhaul.create_run('plain')").await;
        let naps = [start(&db, "nap", json!({})).await, start(&db, "nap", json!({})).await];
        db.execute("select longhaul.start_run('plain', p_delay => '1 second')").await;
        // Each look raises the floors, as a long one does.
        db.execute(
            "create or replace function longhaul.is_long(p_since timestamptz) returns boolean language sql volatile as 'select true'",
        )
        .await;
        for _ in 0..20 {
            pass(&db, "1 second").await;
        }
        for nap in naps {
            assert_eq!(state(&db, nap).await, "completed");
        }
        let worker = worker(&db).await;
        assert_eq!(claim(&db, worker).await.len(), 1, "the delayed one, and none that was not started");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_output_cannot_be_evaluated_fails_its_parents_step_and_nobody_elses() {
    with_database(|db| async move {
        deploy(&db, "child", json!([{ "name": "nap", "sleep": "1s" }]), json!({ "output": COMPARES })).await;
        deploy(&db, "parent", json!([{ "name": "a", "flow": "child", "input": "$.input" }]), json!({})).await;
        deploy(&db, "nap", json!([{ "name": "a", "sleep": "1s" }]), json!({})).await;
        let bad = start(&db, "parent", json!({ "items": ["2023-01-01T00:00:00"] })).await;
        let good = start(&db, "parent", json!({ "items": ["2023-01-01T00:00:00+00:00"] })).await;
        let nap = start(&db, "nap", json!({})).await;
        for _ in 0..3 {
            pass(&db, "1 second").await;
        }
        assert_eq!(state(&db, nap).await, "completed");
        assert_eq!(state(&db, good).await, "completed");
        assert_eq!(state(&db, bad).await, "failed");
        let error: String = db.value(&format!("select error ->> 'message' from longhaul.run where id = '{bad}'")).await;
        assert!(error.contains("has no output: cannot convert value"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_item_of_a_fan_out_with_unusable_data_fails_alone() {
    with_database(|db| async move {
        let step = |failure: &str| {
            json!([{ "name": "each", "handler": "h", "for_each": "$.input.items", "window": 1, "on_failure": failure,
                     "input": { "old": "$.item.at ? (@.datetime() < \"2024-01-01T00:00:00+00:00\".datetime())" } }])
        };
        deploy(&db, "strict", step("fail"), json!({})).await;
        deploy(&db, "lenient", step("continue"), json!({})).await;
        deploy(&db, "other", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let items = json!({ "items": [{ "at": "2023-01-01T00:00:00+00:00" }, { "at": "2023-01-01T00:00:00" }, { "at": "2023-01-01T00:00:00+00:00" }] });
        let strict = start(&db, "strict", items.clone()).await;
        let lenient = start(&db, "lenient", items).await;
        let other = start(&db, "other", json!({})).await;
        let worker = worker(&db).await;
        let first = claim(&db, worker).await;
        assert_eq!(first.len(), 3);
        complete(&db, worker, &first.iter().map(|c| c.key).collect::<Vec<_>>()).await;
        assert_eq!(state(&db, other).await, "completed");
        assert_eq!(state(&db, strict).await, "failed");
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        assert_eq!(state(&db, lenient).await, "completed");
        let outcomes: String = db
            .value(&format!(
                "select string_agg(outcome::text, ' ' order by seq) from longhaul.step where run_id = '{lenient}' and def is not null"
            ))
            .await;
        assert_eq!(outcomes, "completed failed completed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_can_never_end_fails_its_attempt_and_the_others_of_the_call_go_on() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        let wrong = [
            r#"[{"kind": "sleep", "path": "0"}]"#,
            r#"[{"kind": "sleep", "path": "0", "wait_ms": "abc"}]"#,
            r#"[{"kind": "sleep", "path": "0", "wait_ms": 1e30}]"#,
            r#"[{"kind": "nap", "path": "0"}]"#,
            r#"[{"kind": "signal", "path": "0"}]"#,
            r#"[{"kind": "signal", "path": "0", "topic": ""}]"#,
            r#"[{"kind": "external", "path": "0", "topic": "t"}]"#,
            r#"[{"kind": "child", "path": "0"}]"#,
            r#"[{"kind": "decision", "path": "0", "prompt": {"choices": []}}]"#,
            r#"[{"kind": "decision", "path": "0", "prompt": {"by": []}}]"#,
            r#"[{"kind": "decision", "path": "0", "prompt": {"choices": ["a"], "default": "b"}}]"#,
            r#"[{"kind": "interrupt", "path": "0", "prompt": {}, "metadata": [1]}]"#,
            r#"[{"kind": "sleep", "path": "0", "wait_ms": 1}, {"kind": "signal", "path": "0", "topic": "t"}]"#,
            r#"{"kind": "sleep"}"#,
            r#"[]"#,
            r#"["sleep"]"#,
        ];
        for _ in 0..=wrong.len() {
            start(&db, "f", json!({})).await;
        }
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        let runs: Vec<_> = keys.iter().map(|k| k.step.run_id).collect();
        let seqs = vec![0_i32; keys.len()];
        let attempts = vec![1_i32; keys.len()];
        let mut waits: Vec<serde_json::Value> = wrong.iter().map(|w| serde_json::from_str(w).unwrap()).collect();
        waits.push(json!([{ "kind": "signal", "path": "0", "topic": "t" }]));
        let connection = db.database.connection().await.unwrap();
        let refused = connection
            .query(
                "select run_id, refusal from longhaul.suspend($1, $2, $3, $4, $5)",
                &[&worker, &runs, &seqs, &attempts, &waits],
            )
            .await
            .unwrap();
        assert_eq!(refused.len(), wrong.len());
        for row in &refused {
            let reason: String = row.get(1);
            assert!(reason.starts_with("invalid: "), "{reason}");
        }
        for run in &runs[..wrong.len()] {
            assert_eq!(state(&db, *run).await, "failed");
        }
        assert_eq!(state(&db, runs[wrong.len()]).await, "running");
        assert_eq!(db.value::<i64>("select count(*) from longhaul.wait").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_errors_and_delays_beyond_all_bounds_concern_their_own_step() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h", "retry": { "attempts": 2 } }]), json!({})).await;
        db.execute("select longhaul.set_setting('max_payload_bytes', 1000)").await;
        let worker = worker(&db).await;
        for _ in 0..5 {
            start(&db, "f", json!({})).await;
        }
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        let runs: Vec<_> = keys.iter().map(|k| k.step.run_id).collect();
        let refusals: i64 = db
            .value(&format!(
                "select count(*) from longhaul.complete({worker}, array['{}', '{}']::uuid[], '{{0, 0}}', '{{1, 1}}',
                   array[to_jsonb((select string_agg(md5(x::text), '') from generate_series(1, 200) x)), '1'])
                 where refusal like 'invalid: the output has %'",
                runs[0], runs[1]
            ))
            .await;
        assert_eq!(refusals, 1);
        assert_eq!(state(&db, runs[0]).await, "failed");
        assert_eq!(state(&db, runs[1]).await, "completed");
        // A delay in microseconds for milliseconds, a negative one, and an error of 6,400 bytes.
        let ended: i64 = db
            .value(&format!(
                "select count(*) from longhaul.end_attempts({worker}, array['{}', '{}', '{}']::uuid[], '{{0, 0, 0}}', '{{1, 1, 1}}', '{{failed, snoozed, failed}}',
                   array[null, null, jsonb_build_object('message', (select string_agg(md5(x::text), '') from generate_series(1, 200) x))],
                   '{{true, true, null}}', array[9223372036854775807, -5, 0])",
                runs[2], runs[3], runs[4]
            ))
            .await;
        assert_eq!(ended, 0, "nothing is refused");
        assert!(db.value::<bool>("select bool_and(fire_at < longhaul.clock() + interval '10001 days') from longhaul.timer").await);
        assert_eq!(claim(&db, worker).await.len(), 2, "the others may go on at once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_chore_cannot_do_is_set_aside_with_the_reason_and_the_others_are_done() {
    with_database(|db| async move {
        deploy(&db, "nap", json!([{ "name": "a", "sleep": "1s" }]), json!({})).await;
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let mut naps = Vec::new();
        for n in 0..9 {
            naps.push(start(&db, "nap", json!(n)).await);
            db.execute(&format!("select longhaul.start_run('f', '{n}', p_delay => '1 second')")).await;
        }
        // A defect of this installation, which one run meets.
        db.execute(
            "create function longhaul.refuse() returns trigger language plpgsql as $$
             begin
               if (select input from longhaul.run where id = new.run_id) = '4' and tg_op <> 'DELETE' then
                 raise exception 'a defect';
               end if;
               return new;
             end $$;
             create trigger refuse before insert on longhaul.step for each row execute function longhaul.refuse();
             create trigger refuse before insert on longhaul.task for each row execute function longhaul.refuse()",
        )
        .await;
        pass(&db, "2 seconds").await;
        for (n, nap) in naps.iter().enumerate() {
            assert_eq!(state(&db, *nap).await, if n == 4 { "running" } else { "completed" });
        }
        let worker = worker(&db).await;
        assert_eq!(claim(&db, worker).await.len(), 8);
        let kinds: String = db
            .value("select string_agg(kind || ': ' || error, ', ' order by kind) from longhaul.set_aside_items where run_id is not null or kind = 'fire_these'")
            .await;
        assert_eq!(kinds, "fire_these: a defect (SQLSTATE P0001), fire_wait_runs: a defect (SQLSTATE P0001)");

        db.execute("drop trigger refuse on longhaul.step; drop trigger refuse on longhaul.task; drop function longhaul.refuse()").await;
        pass(&db, "1 hour").await;
        assert_eq!(state(&db, naps[4]).await, "completed");
        assert_eq!(claim(&db, worker).await.len(), 1);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.set_aside_items").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_may_fail_and_one_that_fails_its_run_in_one_call_are_counted_right() {
    with_database(|db| async move {
        deploy(&db, "kid", json!([{ "name": "k", "handler": "h" }]), json!({})).await;
        deploy(
            &db,
            "parent",
            json!([{ "name": "a", "handler": "h", "compensate": "h" }, { "name": "b", "handler": "h", "after": ["a"], "on_failure": "continue" },
                   { "name": "c", "flow": "kid", "after": ["a"] }]),
            json!({}),
        )
        .await;
        let run = start(&db, "parent", json!({})).await;
        let worker = worker(&db).await;
        let key = claim_one(&db, worker).await;
        complete(&db, worker, &[key]).await;
        let keys: Vec<_> = claim(&db, worker).await.iter().map(|c| c.key).collect();
        assert_eq!(keys.len(), 2, "b, and the child's step");
        fail(&db, worker, &keys).await;
        db.assert_rooms_are_sound().await;
        assert_eq!(state(&db, run).await, "running", "it is being undone");
        let undo = claim_one(&db, worker).await;
        complete(&db, worker, &[undo]).await;
        assert_eq!(state(&db, run).await, "failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_waits_for_a_child_of_no_flow_is_told_and_others_go_on() {
    with_database(|db| async move {
        deploy(&db, "f", json!([{ "name": "a", "handler": "h" }]), json!({})).await;
        let worker = worker(&db).await;
        start(&db, "f", json!({})).await;
        let key = claim_one(&db, worker).await;
        suspend(&db, worker, key, vec![child("0", "nowhere"), sleep("1", 60_000), wait("decision", "2")]).await;
        // The answer is there: it goes on at once, and its question pauses nobody.
        let key = claim_one(&db, worker).await;
        let answer: String = db
            .value(&format!(
                "select answer || ' ' || (value ->> 'message') from longhaul.history('{}', 0) where path = '0'",
                key.step.run_id
            ))
            .await;
        assert!(answer.starts_with("error there is no flow nowhere"), "{answer}");
        chores(&db).await;
    })
    .await;
}
