//! The hot statements keep their plans: with no statistics, with those of empty tables, and with a million rows.

use longhaul::{Flow, Step};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::harness::{TestDb, with_database};

/// Tables that a statement must never read as a whole, nor join by hash or merge.
const LARGE: [&str; 8] = ["task", "lease", "timer", "own_step", "blocked", "run_", "step_", "attempt_"];

/// Partitions of these hold all that ever was.
const HISTORY: [&str; 3] = ["run_", "step_", "attempt_"];

/// The rooms, whose dead entries a scan from one end to the other would walk over, however few live ones a vacuum has found.
const ROOMS: [&str; 5] = ["task", "lease", "timer", "own_step", "blocked"];

/// How an index condition looks that names rows by their keys.
const KEYED: [&str; 4] = ["(id = ", "(run_id = ", "((id = ", "((run_id = "];

/// A session that tells the plan of every statement, also of those within functions.
struct Explaining {
    client: Client,
    plans: mpsc::UnboundedReceiver<String>,
}

impl Explaining {
    async fn connect(db: &TestDb) -> Self {
        let (client, mut connection) = db.config.connection.postgres.connect(NoTls).await.unwrap();
        let (sender, plans) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    let _ = sender.send(notice.message().to_owned());
                }
            }
        });
        client
            .batch_execute(
                "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
                 set auto_explain.log_analyze = on; set auto_explain.log_timing = off;
                 set client_min_messages = log; set search_path = longhaul",
            )
            .await
            .unwrap();
        Self { client, plans }
    }

    /// Runs a call and checks all its plans; returns how many there were.
    async fn check(&mut self, state: &str, sql: &str) -> usize {
        while self.plans.try_recv().is_ok() {}
        self.client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let mut count = 0;
        while let Ok(plan) = self.plans.try_recv() {
            if !plan.contains("plan:") {
                continue;
            }
            count += 1;
            for (number, line) in plan.lines().enumerate() {
                let bad_join = line.contains("Hash Join") || line.contains("Merge Join");
                // The leases of a lost worker are found by reading all.
                let of_worker = ["expire_leases", "forgotten_leases", "claim_steps"].iter().any(|f| sql.contains(f));
                let bad_scan = line.contains("Seq Scan on")
                    && LARGE.iter().any(|table| {
                        line.contains(&format!("Seq Scan on {table}")) && !(of_worker && *table == "lease")
                    });
                // By their keys, and not by the bounds that leave other partitions out: between those lies the whole history.
                // Where there is next to no history both cost the same.
                let by_key = |tables: &[&str]| tables.iter().any(|table| line.contains(&format!("_pkey on {table}")));
                let range = !line.contains("never executed")
                    && (by_key(&ROOMS) || state.contains("of steps") && by_key(&HISTORY))
                    && !plan
                        .lines()
                        .nth(number + 1)
                        .is_some_and(|condition| KEYED.iter().any(|key| condition.contains(key)));
                assert!(!bad_join && !bad_scan && !range, "{state}: {sql}\n{plan}");
            }
        }
        assert!(count > 0, "{state}: {sql} told no plan");
        count
    }

    /// All transitions of steps.
    async fn check_all(&mut self, state: &str) {
        let ids = "array(select new_run_id() from generate_series(1, 20))";
        let inputs = "array(select '{}'::jsonb from generate_series(1, 20))";
        self.check(state, &format!("select * from start_runs('default', 'two', null, {ids}, {inputs})")).await;
        self.check(state, &format!("select * from start_runs('default', 'two', null, {ids}, {inputs}, p_delays_ms => array(select 3600000 from generate_series(1, 20)))")).await;
        self.client
            .batch_execute("drop table if exists pg_temp.mine; create temp table mine as select * from claim(1, array['default'], array[0])")
            .await
            .unwrap();
        self.check(state, "insert into mine select * from claim(1, array['default'], array[15])").await;
        let part = |from: usize, to: usize| {
            format!(
                "1, (array(select run_id from mine order by run_id))[{from}:{to}], (array(select seq from mine order by run_id))[{from}:{to}], (array(select attempt from mine order by run_id))[{from}:{to}]"
            )
        };
        self.check(state, &format!("select * from heartbeat({})", part(1, 15))).await;
        self.check(state, &format!("select * from what_became_of({})", part(1, 15))).await;
        self.check(
            state,
            &format!("select * from complete({}, array(select '1'::jsonb from generate_series(1, 5)))", part(1, 5)),
        )
        .await;
        self.check(
            state,
            &format!("select * from complete({}, array(select '1'::jsonb from generate_series(1, 5)))", part(1, 5)),
        )
        .await;
        self.check(
            state,
            &format!("select * from fail({}, array(select '{{}}'::jsonb from generate_series(1, 3)))", part(6, 8)),
        )
        .await;
        self.check(state, &format!("select * from release({})", part(9, 10))).await;
        self.check(
            state,
            &format!(
                "select * from end_attempts({}, array['failed', 'failed']::attempt_outcome[], null, array[false, false], null)",
                part(11, 12)
            ),
        )
        .await;
        self.check(state, "select stop_run('default', run_id) from mine order by run_id desc limit 1").await;
        self.check(state, "select * from forgotten_leases(1, array[]::uuid[], array[]::int[])").await;
        self.check_joins(state).await;
        self.check(state, "select * from claim_steps(1, '{}', '{}', null, array[]::uuid[], array[]::int[])").await;
        self.client.batch_execute("update worker set expires_at = clock() - interval '1 s'").await.unwrap();
        self.check(state, "select expire_leases()").await;
        self.client.batch_execute("update worker set state = 'active', expires_at = clock() + interval '10 days'; select advance_clock('2 hours')").await.unwrap();
        self.check(state, "select fire_timers()").await;
    }

    /// Steps with several predecessors, and with something of their own.
    async fn check_joins(&mut self, state: &str) {
        let ids = "array(select new_run_id() from generate_series(1, 20))";
        let inputs = "array(select '{}'::jsonb from generate_series(1, 20))";
        self.check(state, &format!("select * from start_runs('default', 'join', null, {ids}, {inputs})")).await;
        for part in ["seq = 0", "seq = 1", "seq = 2"] {
            self.client.batch_execute("create temp table if not exists part as select * from claim(1, array['joins'], array[0]); insert into part select * from claim(1, array['joins'], array[1000])").await.unwrap();
            let list = |column: &str| format!("array(select {column} from part where {part} order by run_id)");
            let (runs, seqs, attempts) = (list("run_id"), list("seq"), list("attempt"));
            self.check(
                state,
                &format!("select * from complete(1, {runs}, {seqs}, {attempts}, {})", list("'1'::jsonb")),
            )
            .await;
        }
        let left: i64 = self.client.query_one("select count(*) from own_step", &[]).await.unwrap().get(0);
        assert_eq!(left, 0, "what has ended has nothing of its own");
        self.client.batch_execute("drop table part").await.unwrap();
    }
}

/// Runs that have ended: what the history of steps holds.
fn end(runs: u32) -> String {
    format!(
        "set search_path = longhaul;
         create temp table done as select r.id from run r join task t on t.run_id = r.id and t.seq = 0 and t.attempt = 0 where r.state = 'running' limit {runs};
         delete from task t using done d where t.run_id = d.id;
         insert into step (run_id, started_at, ended_at, worker_id, seq, attempt, outcome, output)
         select d.id, now(), now(), 1, s, 1, 'completed', '1' from done d, generate_series(0, 1) s;
         update run r set state = 'completed', ended_at = now(), open_steps = 0 from done d where r.id = d.id;
         drop table done;
         reset search_path"
    )
}

fn start(runs: u32) -> String {
    format!(
        "select * from longhaul.start_runs('default', 'two', null, array(select longhaul.new_run_id() from generate_series(1, {runs})),
                                           array(select '{{}}'::jsonb from generate_series(1, {runs})))"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hot_statements_keep_their_plans() {
    with_database(|db| async move {
        db.client()
            .await
            .deploy(&Flow::new("two", 1).step(Step::new("a", "h")).step(Step::new("b", "h").after("a")))
            .await
            .unwrap();
        let join = Flow::new("join", 1)
            .step(Step::new("a", "h").queue("joins"))
            .step(Step::new("b", "h").queue("joins"))
            .step(Step::new("c", "h").queue("joins").after("a").after("b").input(serde_json::json!({ "a": "$.steps.a" })));
        db.client().await.deploy(&join).await.unwrap();
        crate::starting::play_worker(&db, &["h"]).await;
        // The calls below name it.
        db.execute("update longhaul.worker set id = 1").await;

        Explaining::connect(&db).await.check_all("no statistics").await;

        // Statistics of empty tables: what a planner believes who looked too early.
        db.execute("begin; set local search_path = longhaul; truncate task, lease, timer, own_step, blocked, run, step, attempt; commit")
            .await;
        db.execute("analyze").await;
        Explaining::connect(&db).await.check_all("statistics of empty tables").await;

        // A new partition, and one that fills: a range of few rows must not look cheaper than their keys.
        for (runs, state) in
            [(300, "hundreds of steps"), (3_000, "thousands of steps"), (30_000, "tens of thousands of steps")]
        {
            db.execute(&start(runs)).await;
            db.execute(&end(runs / 2)).await;
            Explaining::connect(&db).await.check_all(&format!("{state}, stale statistics")).await;
            db.execute("analyze").await;
            Explaining::connect(&db).await.check_all(&format!("{state}, fresh statistics")).await;
        }

        // A million rows and stale statistics, then fresh ones.
        for _ in 0..12 {
            db.execute(&start(50_000)).await;
        }
        db.execute(&end(500_000)).await;
        assert!(db.value::<i64>("select count(*) from longhaul.step").await >= 1_000_000);
        Explaining::connect(&db).await.check_all("a million of steps, stale statistics").await;
        db.execute("analyze").await;
        Explaining::connect(&db).await.check_all("a million of steps, fresh statistics").await;
    })
    .await;
}
