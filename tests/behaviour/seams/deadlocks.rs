//! Calls over overlapping sets of runs, in both orders, at once: none waits for another in a circle.

use serde_json::json;
use uuid::Uuid;

use super::{claim, deploy, start, worker};
use crate::harness::with_database;

/// Calls over many runs: `:runs` are their ids in the order of the caller, `:w` is the worker that holds their steps.
const CALLS: [(&str, &str); 14] = [
    (
        "complete",
        "select * from complete(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]), array_fill('1'::jsonb, array[:n]))",
    ),
    (
        "complete what is free",
        "select * from complete(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]), array_fill('1'::jsonb, array[:n]), true)",
    ),
    (
        "fail",
        "select * from fail(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]), array_fill('{}'::jsonb, array[:n]))",
    ),
    ("release", "select * from release(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]))"),
    (
        "suspend",
        "select * from suspend(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]), array_fill('[{\"kind\": \"signal\", \"path\": \"0\", \"topic\": \"t\"}]'::jsonb, array[:n]))",
    ),
    (
        "checkpoint",
        "select * from save_checkpoints(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]), array_fill('9'::text, array[:n]), array_fill('step'::text, array[:n]), array_fill('n'::text, array[:n]), array_fill('1'::jsonb, array[:n]))",
    ),
    ("heartbeat", "select * from heartbeat(:w, :runs, array_fill(0, array[:n]), array_fill(1, array[:n]))"),
    ("broadcast", "select broadcast_signal('default', 't')"),
    ("retry dead letters", "select retry_dead_letters('default')"),
    (
        "start",
        "select * from start_runs('default', 'f', null, array(select new_run_id() from generate_series(1, :n)), array(select i from unnest(:inputs) i))",
    ),
    ("claim", "select * from claim(:w, '{default}', '{100}')"),
    ("chores", "select run_chore() from generate_series(1, 12)"),
    ("expire", "select free_leases(array[:w], 1000)"),
    ("leave", "select deregister_worker(:w)"),
];

fn sql(call: &str, worker: i64, runs: &[Uuid]) -> String {
    let ids: Vec<String> = runs.iter().map(|run| format!("\"{run}\"")).collect();
    let keys: Vec<String> = (0..runs.len()).map(|n| format!("'{{\"k\": {n}}}'::jsonb")).collect();
    call.replace(":runs", &format!("'{{{}}}'::uuid[]", ids.join(",")))
        .replace(":inputs", &format!("array[{}]", keys.join(",")))
        .replace(":w", &worker.to_string())
        .replace(":n", &runs.len().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_pair_of_calls_over_the_same_runs_in_both_orders_ends() {
    with_database(|db| async move {
        deploy(
            &db,
            "f",
            json!([{ "name": "a", "handler": "h", "concurrency": { "name": "a", "key": "$.input.k", "limit": 3 }, "compensate": "h" },
                   { "name": "b", "handler": "h", "after": ["a"], "concurrency": { "name": "b", "key": "$.input.k", "limit": 3 }, "fair": { "key": "$.input.k" } }]),
            json!({ "timeout": "1h" }),
        )
        .await;
        db.execute("select longhaul.limit_queue('default', 'default', 1000, 100000, '1 second', 1000, '1 second')").await;
        for (first, one) in CALLS {
            for (second, two) in CALLS {
                let worker = worker(&db).await;
                let mut runs = Vec::new();
                for n in 0..6 {
                    runs.push(start(&db, "f", json!({ "k": n % 3 })).await);
                }
                claim(&db, worker).await;
                let calls = [sql(one, worker, &runs), {
                    runs.reverse();
                    sql(two, worker, &runs)
                }];
                let running = calls.iter().map(|call| {
                    let db = db.clone();
                    async move {
                        let connection = db.database.connection().await.unwrap();
                        let result = connection.batch_execute(&format!("begin; set local search_path = longhaul; {call}; commit")).await;
                        if result.is_err() {
                            connection.batch_execute("rollback").await.unwrap();
                        }
                        result
                    }
                });
                for result in futures::future::join_all(running).await {
                    if let Err(error) = result {
                        let code = error.code().map(|c| c.code().to_owned()).unwrap_or_default();
                        assert!(code.starts_with("LH"), "{first} beside {second}: {error:?}");
                    }
                }
                db.execute(
                    "select longhaul.stop_run('default', id) from longhaul.run where state in ('running', 'paused'); delete from longhaul.dead_letter",
                )
                .await;
            }
        }
    })
    .await;
}
