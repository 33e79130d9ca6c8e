//! Every pair of operations at once, on two connections: one has done its work and not committed yet when the other begins. What
//! comes of it must be what one of the two orders gives; when the first one rolls back, what the second alone gives.

use std::{collections::HashMap, time::Duration};

use longhaul::{Flow, Retry, Step, connect::Connection};
use uuid::Uuid;

use crate::harness::{TestDb, with_database};

/// What each operation does to one run: SQL, with :run, :w (the worker that owns step a), :v (another worker), :signal.
const OPERATIONS: &[(&str, &str)] = &[
    ("claim", "select * from longhaul.claim(:v, '{:q}', '{1}')"),
    ("complete", "select * from longhaul.complete(:w, array[:run]::uuid[], '{0}', '{1}', array['1'::jsonb])"),
    ("fail", "select * from longhaul.fail(:w, array[:run]::uuid[], '{0}', '{1}', array['{}'::jsonb])"),
    ("release", "select * from longhaul.release(:w, array[:run]::uuid[], '{0}', '{1}')"),
    ("heartbeat", "select * from longhaul.heartbeat(:w, array[:run]::uuid[], '{0}', '{1}')"),
    (
        "expire",
        "update longhaul.worker set expires_at = longhaul.clock() where id = :w and state = 'active'; select longhaul.expire_leases()",
    ),
    ("deregister", "select longhaul.deregister_worker(:w)"),
    ("pause", "select longhaul.pause_run('default', :run)"),
    ("resume", "select longhaul.resume_run('default', :run)"),
    ("stop", "select longhaul.stop_run('default', :run)"),
    ("fire", "update longhaul.timer set fire_at = longhaul.clock() where run_id = :run; select longhaul.fire_timers()"),
    ("signal", "select longhaul.send_signal('default', 'pairs', :run::text, '1', p_idempotency_key => :signal)"),
    ("rename", "select longhaul.rename_run('default', :run, 'renamed')"),
    (
        "deadline",
        "update longhaul.deadline set at = longhaul.clock() where run_id = :run; select longhaul.end_overdue_runs()",
    ),
];

/// How far the run has come before.
const STATES: &[(&str, &[&str])] =
    &[("ready", &[]), ("running", &["own"]), ("paused", &["own", "pause"]), ("asleep", &["own", "fail"])];

struct Case {
    run: Uuid,
    queue: String,
    owner: i64,
    other: i64,
    signal: Uuid,
}

impl Case {
    /// A run of a flow: a, then b; beside them a step that waits for a signal.
    async fn new(db: &TestDb, state: &[&str]) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let queue = format!("q{id}");
        let step = |name: &str| Step::new(name, "h").queue(&queue).retry(Retry::fixed(3, Duration::from_secs(3600)));
        let flow = Flow::new(format!("f{id}"), 1)
            .step(step("a"))
            .step(step("b").after("a"))
            .step(Step::wait_signal("s", longhaul::WaitSignal::new("pairs").key("$.run.id")))
            .timeout(Duration::from_secs(86_400));
        db.client().await.deploy(&flow).await.unwrap();
        let run = db.client().await.start(&format!("f{id}"), &1).await.unwrap().id();
        let worker = format!(
            "select worker_id from longhaul.register_worker('default', 'w', 'h', 1, '0', '{{{queue}}}', '{{h}}', 10, 3600000)"
        );
        let case =
            Self { run, queue, owner: db.value(&worker).await, other: db.value(&worker).await, signal: Uuid::new_v4() };
        for operation in state {
            let sql = match *operation {
                "own" => case.sql("select * from longhaul.claim(:w, '{:q}', '{1}')"),
                name => case.sql(OPERATIONS.iter().find(|o| o.0 == name).expect("an operation").1),
            };
            db.execute(&sql).await;
        }
        case
    }

    fn sql(&self, operation: &str) -> String {
        operation
            .replace(":run", &format!("'{}'", self.run))
            .replace(":signal", &format!("'{}'", self.signal))
            .replace(":q", &self.queue)
            .replace(":w", &self.owner.to_string())
            .replace(":v", &self.other.to_string())
    }

    /// All that can be seen of the run, without what differs by time.
    async fn shown(&self, db: &TestDb) -> String {
        // What met a locked run left a notice, or comes again.
        db.execute(
            "select longhaul.deliver_notices(); select longhaul.expire_leases(); select longhaul.free_orphans()",
        )
        .await;
        let rooms = ["task", "lease", "timer", "held", "wait"].map(|room| {
            format!("select '{room}', x.seq::text, coalesce((to_jsonb(x) ->> 'attempt')::text, '') from longhaul.{room} x where x.run_id = '{}'", self.run)
        });
        let text: String = db
            .value(&format!(
                "select string_agg(concat_ws(' ', kind, a, b), E'\\n' order by kind, a, b) from ({} union all
                 select 'run', state::text, coalesce(name, '') || open_steps from longhaul.run where id = '{run}' union all
                 select 'step', seq::text, concat_ws(' ', state, blockers, attempt) from longhaul.steps where run_id = '{run}' union all
                 select 'attempt', concat_ws(' ', seq, attempt), outcome::text from longhaul.attempt where run_id = '{run}' union all
                 select 'signal', '', case when consumed_at is null then 'kept' else 'consumed' end from longhaul.signal where idempotency_key = '{signal}' union all
                 select 'owner', '', state::text from longhaul.worker where id = {owner}
                ) t(kind, a, b)",
                rooms.join(" union all "),
                run = self.run,
                signal = self.signal,
                owner = self.owner,
            ))
            .await;
        text
    }
}

/// Runs SQL; a refusal is an answer. The transaction goes on in either case.
async fn run(connection: &Connection, sql: &str) {
    let result = connection.batch_execute(&format!("savepoint s; {sql}")).await;
    if let Err(error) = result {
        let code = error.code().map(|c| c.code().to_owned()).unwrap_or_default();
        assert!(code.starts_with("LH"), "{sql}: {error:?}");
        connection.batch_execute("rollback to savepoint s").await.unwrap();
    }
}

async fn in_transaction(connection: &Connection, sql: &str) {
    connection.batch_execute("begin").await.unwrap();
    run(connection, sql).await;
    connection.batch_execute("commit").await.unwrap();
}

/// What operations give one after the other; each combination is tried once.
#[derive(Default)]
struct Orders(HashMap<Vec<&'static str>, String>);

impl Orders {
    async fn of(&mut self, db: &TestDb, state: &[&str], operations: &[&'static str]) -> String {
        if let Some(known) = self.0.get(operations) {
            return known.clone();
        }
        let shown = one_by_one(db, state, operations).await;
        self.0.insert(operations.to_vec(), shown.clone());
        shown
    }
}

async fn one_by_one(db: &TestDb, state: &[&str], operations: &[&str]) -> String {
    let case = Case::new(db, state).await;
    let connection = db.database.connection().await.unwrap();
    for operation in operations {
        in_transaction(&connection, &case.sql(operation)).await;
    }
    case.shown(db).await
}

/// The first has done its work when the second begins, and ends when the second is done or waits for it.
async fn at_once(db: &TestDb, state: &[&str], first: &str, second: &str, commit: bool) -> String {
    let case = Case::new(db, state).await;
    let one = db.database.connection().await.unwrap();
    let two = db.database.connection().await.unwrap();
    one.batch_execute("begin").await.unwrap();
    run(&one, &case.sql(first)).await;
    let second = case.sql(second);
    // Asked for before: the connection is busy with the call afterwards.
    let pid: i32 = two.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let mut other = Box::pin(in_transaction(&two, &second));
    let done = until_done_or_blocked(db, pid, &mut other).await;
    one.batch_execute(if commit { "commit" } else { "rollback" }).await.unwrap();
    if !done {
        other.await;
    }
    case.shown(db).await
}

/// True when it is done, false when it waits for a lock.
async fn until_done_or_blocked(db: &TestDb, pid: i32, call: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    loop {
        tokio::select! {
            biased;
            () = &mut *call => return true,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                let waits: bool = db.value(&format!("select cardinality(pg_blocking_pids({pid})) > 0")).await;
                if waits {
                    return false;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_pair_of_operations_gives_what_one_of_the_orders_gives() {
    with_database(|db| async move {
        let mut pairs = 0;
        for (name, state) in STATES {
            let mut orders = Orders::default();
            for (a, first) in OPERATIONS {
                for (b, second) in OPERATIONS {
                    // What is locked is skipped by a claim, by chores, and by a signal, which leaves a notice: all come again.
                    let skips = ["claim", "expire", "fire", "deadline", "signal"].contains(b);
                    let mut expected = vec![
                        orders.of(&db, state, &[first, second]).await,
                        orders.of(&db, state, &[second, first]).await,
                    ];
                    let mut expected_alone = vec![orders.of(&db, state, &[second]).await];
                    if skips {
                        expected.push(orders.of(&db, state, &[first]).await);
                        expected_alone.push(orders.of(&db, state, &[]).await);
                    }
                    for (commit, expected) in [(true, expected), (false, expected_alone)] {
                        let shown = at_once(&db, state, first, second, commit).await;
                        let end = if commit { "committed" } else { "rolled back" };
                        assert!(
                            expected.contains(&shown),
                            "{name}: {b} while {a} is open, then {end}, gives\n{shown}\nand not\n{}",
                            expected.join("\nor\n")
                        );
                        pairs += 1;
                    }
                }
            }
        }
        println!("{pairs} pairs");
    })
    .await;
}
