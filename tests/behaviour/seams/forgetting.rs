//! Chores that delete what is old, while a caller holds one of the rows: it stays until the caller is done, and all others go.

use serde_json::json;

use super::{deploy, open};
use crate::harness::with_database;

/// A chore, the table from which it deletes, and how a row gets there that is old.
const FORGOTTEN: &[(&str, &str, &str)] = &[
    (
        "forget_signals",
        "signal",
        "insert into longhaul.signal (tenant, topic, key, scope, payload, sent_at, sent_by, expires_at)
         values ('default', 't', 'k', 'one', '1', now() - interval '1 year', 'me', now() - interval '1 year')",
    ),
    (
        "forget_workers",
        "worker",
        "insert into longhaul.worker (id, tenant, name, host, pid, version, state, lease_ms, started_at, heartbeat_at, expires_at, stopped_at, slots, queues, handlers)
         select longhaul.new_worker_id(), 'default', 'n', 'h', 1, '0', 'gone', 1000, y, y, y, y, 1, '{q}', '{h}' from (select now() - interval '1 year' as y) x",
    ),
    (
        "forget_leftovers",
        "progress",
        "insert into longhaul.progress (run_id, seq, key, value, at) values (longhaul.new_run_id(), 0, 'k', '1', now())",
    ),
    (
        "forget_leftovers",
        "queue_figure",
        "insert into longhaul.queue_figure (queue_id, worker_id, running, slots, claimed, completed, failed, at)
         values (1, -1 - (select count(*) from longhaul.queue_figure), 0, 1, 0, 0, 0, now())",
    ),
    (
        "forget_leftovers",
        "horizon_mark",
        "insert into longhaul.horizon_mark (at, xid)
         values (now() - interval '1 hour' * (1 + (select count(*) from longhaul.horizon_mark)), '1')",
    ),
    (
        "forget_keys",
        "start_key",
        "insert into longhaul.start_key (tenant, flow, key, run_id)
         values ('default', 'f', 'k' || (select count(*) from longhaul.start_key), longhaul.new_run_id())",
    ),
    (
        "forget_keys",
        "run_key",
        "insert into longhaul.run_key (run_id, tenant, flow, key, while_live) values (longhaul.new_run_id(), 'default', 'f', 'k', false)",
    ),
    (
        "forget_budgets",
        "budget",
        "insert into longhaul.budget (tenant, name, window_at, used)
         values ('default', 'b', now() - interval '1 year' * (1 + (select count(*) from longhaul.budget)), 1)",
    ),
    (
        "forget_gates",
        "gate",
        "insert into longhaul.gate (id, tenant, name, key, most)
         select n, 'default', 'l', 'k' || n, 1 from (select count(*) as n from longhaul.gate) x",
    ),
    (
        "forget_locks",
        "lock",
        "select longhaul.acquire_lock('default', 'l' || (select count(*) from longhaul.lock), 'me', 1000);
         update longhaul.lock set acquired_at = now() - interval '1 year', expires_at = now() - interval '1 year'",
    ),
    (
        "forget_ticks",
        "schedule_tick",
        "insert into longhaul.schedule_tick (schedule_id, tick, fired_at, outcome)
         select 1, y, y, 'skipped' from (select now() - interval '1 year' * (1 + (select count(*) from longhaul.schedule_tick)) as y) x",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_caller_holds_stays_and_the_others_are_forgotten() {
    with_database(|db| async move {
        let spends = json!([{ "name": "a", "handler": "h", "budget": { "name": "b", "limit": 1, "per": "1h" } }]);
        deploy(&db, "f", spends, json!({})).await;
        for (chore, table, old) in FORGOTTEN {
            for _ in 0..3 {
                db.execute(old).await;
            }
            let count = format!("select count(*) from longhaul.{table}");
            assert!(db.value::<i64>(&count).await >= 3, "{table}");
            // Some chores go through their table in stretches.
            let call = format!("set lock_timeout = '200ms'; {}", format!("select longhaul.{chore}(); ").repeat(3));
            let caller = open(
                &db,
                &format!(
                    "select from longhaul.{table} where ctid = (select min(ctid) from longhaul.{table}) for update"
                ),
            )
            .await;
            db.execute(&call).await;
            assert_eq!(db.value::<i64>(&count).await, 1, "{chore} deletes from {table} all but the row that is held");
            caller.batch_execute("rollback").await.unwrap();
            db.execute(&call).await;
            assert_eq!(db.value::<i64>(&count).await, 0, "{chore} deletes from {table} once the row is free");
        }
    })
    .await;
}
