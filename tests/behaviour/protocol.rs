//! The calls that stand on others, for workers in any language (docs/protocol.md). How such a worker behaves is graded by `ops/protocol`.

use longhaul::{Flow, Step};
use serde_json::{Value, json};

use crate::{
    harness::{TestDb, with_database},
    starting::play_worker,
};

/// What a query gives, as JSON.
async fn rows(db: &TestDb, sql: &str) -> Vec<Value> {
    db.value::<Value>(&format!("select coalesce(jsonb_agg(x), '[]') from ({sql}) x")).await.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_tells_all_that_a_worker_must_know() {
    with_database(|db| async move {
        let definition = json!({"name": "told", "version": 3, "checkpoints": false, "steps": [
            {"name": "a", "handler": "h", "with": {"k": 1}, "timeout": "2s", "retry": {"attempts": 4}}]});
        db.execute(&format!("select longhaul.deploy('default', '{definition}')")).await;
        let run: String = db.value("select longhaul.start_run('told', '[7]')::text").await;
        let worker = play_worker(&db, &["h"]).await;
        let claimed = rows(&db, &format!("select * from longhaul.claim_steps({worker}, '{{default}}', '{{10}}', 1)")).await;
        assert_eq!(
            claimed,
            [json!({"run_id": run, "seq": 0, "attempt": 1, "failures": 0, "queue": "default", "input": [7], "flow": "told", "flow_version": 3,
                "step": "a", "handler": "h", "parameters": {"k": 1}, "timeout_ms": 2000, "max_attempts": 4, "checkpoints": false,
                "idempotency_key": format!("{run}/0"), "history": []})]
        );

        // As after a claim whose answer was lost: what the worker knows of is left out, and late claims take nothing.
        let ask = |known: &str| {
            format!("select run_id, handler from longhaul.claim_steps({worker}, '{{}}', '{{}}', 5, {known}::uuid[], '{{0}}'::integer[])")
        };
        assert_eq!(rows(&db, &ask("'{}'")).await.len(), 1);
        assert_eq!(rows(&db, &ask(&format!("array['{run}']"))).await, Vec::<Value>::new());
        let calls = db.calls().await;
        assert!(calls.claim_numbered(worker, &["default"], &[10], Some(5)).await.is_err());
        assert!(calls.claim_numbered(worker, &["default"], &[10], Some(6)).await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_comes_with_the_claim_unless_it_is_long() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        for length in [10, 400_000] {
            let run: String = db.value("select longhaul.start_run('one')::text").await;
            let worker = play_worker(&db, &["h"]).await;
            let claim = format!("select history from longhaul.claim_steps({worker}, '{{default}}', '{{10}}')");
            assert_eq!(rows(&db, &claim).await, [json!({"history": []})]);
            let step = format!("{worker}, array['{run}']::uuid[], array[0], array[1]");
            // Not a text that shrinks when it is stored.
            db.execute(&format!(
                "select longhaul.save_checkpoints({step}, array['0'], array['step'], array['n'],
                   array[(select to_jsonb(string_agg(md5(i::text), '')) from generate_series(1, {length} / 32 + 1) i)])"
            ))
            .await;
            db.execute(&format!("select longhaul.release({step})")).await;
            let again = rows(&db, &claim).await;
            if length < 1000 {
                let entry = &again[0]["history"][0];
                assert_eq!(
                    (&entry["path"], &entry["kind"], &entry["name"], &entry["answer"]),
                    (&json!("0"), &json!("step"), &json!("n"), &json!("ok"))
                );
            } else {
                assert_eq!(again, [json!({"history": null})]);
                assert_eq!(
                    rows(&db, &format!("select path from longhaul.history('{run}', 0)")).await,
                    [json!({"path": "0"})]
                );
            }
            db.execute(&format!(
                "select longhaul.complete({worker}, array['{run}']::uuid[], array[0], array[2], array['1']::jsonb[])"
            ))
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_short_forms_do_what_they_say() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("one", 1).step(Step::new("a", "h"))).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        for (form, outcome, state) in [
            ("fail_for_good({}, array['{\"message\": \"no\"}']::jsonb[])", "failed", "failed"),
            ("snooze({}, array[60000]::bigint[])", "snoozed", "running"),
            ("defer({}, array['{\"message\": \"busy\"}']::jsonb[])", "deferred", "running"),
        ] {
            let run: String = db.value("select longhaul.start_run('one')::text").await;
            assert_eq!(db.calls().await.claim(worker, &["default"], &[10]).await.unwrap().len(), 1);
            let step = format!("{worker}, array['{run}']::uuid[], array[0], array[1]");
            let call = format!("select refusal from longhaul.{}", form.replace("{}", &step));
            assert_eq!(rows(&db, &call).await, Vec::<Value>::new(), "{form}");
            let ended: String =
                db.value(&format!("select outcome::text from longhaul.attempt where run_id = '{run}'")).await;
            let now: String = db.value(&format!("select state::text from longhaul.runs where id = '{run}'")).await;
            assert_eq!((ended.as_str(), now.as_str()), (outcome, state));
            // Asked again, as after a lost answer, it says so.
            assert_eq!(rows(&db, &call).await, [json!({ "refusal": format!("already_{outcome}") })]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_fenced_and_outputs_are_read_by_name() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        let run: String = db.value("select longhaul.start_run('one')::text").await;
        let (worker, stranger) = (play_worker(&db, &["h"]).await, play_worker(&db, &["h"]).await);
        db.calls().await.claim(worker, &["default"], &[10]).await.unwrap();
        let output = format!("select * from longhaul.output_of('{run}', 'a')");
        assert_eq!(rows(&db, &output).await, [json!({"outcome": null, "output": null})]);
        assert_eq!(rows(&db, &format!("select * from longhaul.output_of('{run}', 'b')")).await, Vec::<Value>::new());

        let report = |worker: i64, number: i64, keys: &str, values: &str| {
            format!(
                "select refusal from longhaul.report_progress({worker}, array_fill('{run}'::uuid, array[cardinality({keys})]),
                   array_fill(0, array[cardinality({keys})]), array_fill(1, array[cardinality({keys})]), {keys}, {values}, {number})"
            )
        };
        let refused = rows(&db, &report(worker, 2, "array['a', 'a', null]", "array['1', '2', '3']::jsonb[]")).await;
        assert!(refused.len() == 1 && refused[0]["refusal"].as_str().unwrap().starts_with("invalid: "), "{refused:?}");
        let lost = [json!({"refusal": "lease_lost"})];
        assert_eq!(rows(&db, &report(stranger, 9, "array['a']", "array['9']::jsonb[]")).await, lost);
        // One that comes late replaces nothing.
        assert_eq!(rows(&db, &report(worker, 1, "array['a']", "array['0']::jsonb[]")).await, Vec::<Value>::new());
        let stored = rows(&db, &format!("select key, value from longhaul.progress where run_id = '{run}'")).await;
        assert_eq!(stored, [json!({"key": "a", "value": 2})]);

        db.execute(&format!("select longhaul.complete({worker}, array['{run}']::uuid[], array[0], array[1], array['\"done\"']::jsonb[])")).await;
        assert_eq!(rows(&db, &output).await, [json!({"outcome": "completed", "output": "done"})]);
        assert_eq!(rows(&db, &report(worker, 3, "array['a']", "array['9']::jsonb[]")).await, lost);
    })
    .await;
}
