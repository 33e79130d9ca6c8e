//! What is asked often costs the same whatever the history holds: pages touched are counted with little history and with much.

use longhaul::{Flow, Step};
use serde_json::Value;

use crate::harness::{TestDb, with_database};

/// History in SQL: ended runs of two steps each over ninety days, in partitions of their own, with a signal each.
const HISTORY: &str = "
    create function pg_temp.history(n int, flow_name text) returns void language sql as $$
      with past as (
        select (substr(longhaul.uuid_at(t.at)::text, 1, 13) || '-7' || substr(gen_random_uuid()::text, 16))::uuid as id, t.at
        from (select now() - interval '1 day' - (x::float8 / n) * interval '89 days' as at from generate_series(1, n) x) t
      ), runs as (
        insert into longhaul.run (id, created_at, ended_at, flow_id, open_steps, state, tenant, input)
        select p.id, p.at, p.at + interval '1 s', f.id, 0, 'completed', 'default', '{}' from past p, longhaul.flow f where f.name = flow_name
      ), signals as (
        insert into longhaul.signal (tenant, run_id, topic, scope, payload, sent_at, sent_by, expires_at, consumed_at)
        select 'default', p.id, 't', 'one', '1', p.at, 'x', p.at + interval '900 days', p.at from past p
      )
      insert into longhaul.step (run_id, seq, outcome, ended_at, started_at, attempt, worker_id, output)
      select p.id, s, 'completed', p.at, p.at, 1, 1, '1' from past p, generate_series(0, 1) s;
    $$;";

/// Partitions for it.
const PAST: &str = "
    select longhaul.make_partition(t, d, d + interval '7 days')
    from unnest(longhaul.history_tables()) t,
         (select min(longhaul.time_of_id(from_id)) as first from longhaul.partitions_of('longhaul.run')) p,
         generate_series(p.first - interval '91 days', p.first - interval '7 days', interval '7 days') d";

/// What is asked, with the pages that it may touch beyond what it touched with little history.
const ASKED: &[(&str, i64)] = &[
    ("select id, state from longhaul.runs order by id desc limit 5", 100),
    ("select * from longhaul.runs where id = (select max(run_id::text)::uuid from longhaul.task)", 100),
    ("select * from longhaul.find_runs(p_limit => 5)", 500),
    ("select * from longhaul.find_runs(p_state => 'paused')", 500),
    ("select * from longhaul.find_runs(p_state => 'running')", 500),
    ("select * from longhaul.find_runs(p_parent => gen_random_uuid())", 500),
    ("select * from longhaul.find_runs(p_state => 'failed', p_look => 1000)", 2000),
    ("select * from longhaul.find_runs(p_name => 'nobody', p_look => 1000)", 2000),
    ("select * from longhaul.find_runs(p_flow => 'rare', p_look => 1000)", 2000),
    ("select * from longhaul.steps where run_id = (select max(run_id::text)::uuid from longhaul.task)", 200),
    ("select * from longhaul.violations_among(1000)", 2000),
    ("select * from longhaul.overdue", 100),
    ("select * from longhaul.waits", 300),
    ("select * from longhaul.leases", 300),
    ("select * from longhaul.queues", 100),
    ("select * from longhaul.workers", 100),
    ("select * from longhaul.flow_versions", 500),
    ("select * from longhaul.retention_page('default', 'rare', p_look => 1000)", 1000),
    ("select longhaul.drop_partitions()", 1500),
    ("select longhaul.forget_leftovers()", 500),
    ("select longhaul.forget_shares()", 500),
    ("select longhaul.forget_budgets()", 500),
    ("select longhaul.forget_locks()", 500),
];

/// A session with a history of its making.
struct OperationOptions {
    client: tokio_postgres::Client,
}

impl OperationOptions {
    async fn connect(db: &TestDb) -> Self {
        let (client, connection) = db.config.connection.postgres.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(HISTORY).await.unwrap();
        Self { client }
    }

    /// Pages that a statement touches, in or out of the cache.
    async fn pages(&self, sql: &str) -> i64 {
        let row =
            self.client.query_one(&format!("explain (analyze, buffers, timing off, format json) {sql}"), &[]).await;
        let plan: Value = row.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0);
        let plan = &plan[0]["Plan"];
        plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_often_costs_the_same_with_ten_times_the_history() {
    with_database(|db| async move {
        let client = db.client().await;
        for flow in ["common", "rare"] {
            let two = Flow::new(flow, 1).step(Step::new("a", "nobody")).step(Step::new("b", "nobody").after("a"));
            db.client().await.deploy(&two).await.unwrap();
        }
        client.start_many("common", 0..20).await.unwrap();
        let asking = OperationOptions::connect(&db).await;
        asking.execute(PAST).await;
        asking
            .execute("select longhaul.put_retention_policy('default', 'rare', '1 day', 'completed', 'rare', 10)")
            .await;
        asking.execute("select pg_temp.history(300, 'rare'), pg_temp.history(4000, 'common'); analyze").await;
        let mut before = Vec::new();
        for (sql, _) in ASKED {
            // Twice: what the first one leaves behind (hints, caches of the catalog) is not what is counted.
            asking.pages(sql).await;
            before.push(asking.pages(sql).await);
        }

        asking.execute("select pg_temp.history(40000, 'common'); analyze").await;
        for ((sql, more), before) in ASKED.iter().zip(before) {
            asking.pages(sql).await;
            let after = asking.pages(sql).await;
            assert!(after <= before + more, "{sql}: {after} pages, and {before} with a tenth of the history");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_goes_on_where_it_has_looked_and_finds_the_old_runs_of_a_rare_flow_below_many_others() {
    with_database(|db| async move {
        for flow in ["common", "rare"] {
            let two = Flow::new(flow, 1).step(Step::new("a", "nobody")).step(Step::new("b", "nobody").after("a"));
            db.client().await.deploy(&two).await.unwrap();
        }
        let asking = OperationOptions::connect(&db).await;
        asking.execute(PAST).await;
        asking.execute("select pg_temp.history(50, 'rare'), pg_temp.history(5000, 'common')").await;
        asking.execute("select longhaul.put_retention_policy('default', 'rare', '2 days', null, 'rare', 10)").await;
        let mut next: Option<uuid::Uuid> = None;
        let mut kept: Value = serde_json::json!({});
        let (mut found, mut pages) = (0, 0);
        loop {
            let page = asking
                .client
                .query_one(
                    "select runs, next, kept, looked from longhaul.retention_page('default', 'rare', $1, $2, p_look => 1000)",
                    &[&next, &kept],
                )
                .await
                .unwrap();
            assert!(page.get::<_, i64>("looked") <= 1000);
            found += page.get::<_, Vec<uuid::Uuid>>("runs").len();
            (next, kept) = (page.get("next"), page.get("kept"));
            pages += 1;
            if next.is_none() {
                break;
            }
        }
        assert_eq!((found, kept["rare"].as_i64()), (40, Some(10)));
        assert!(pages > 5, "{pages} pages");
        assert_eq!(db.value::<i64>("select longhaul.run_retention()").await, 40);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run r join longhaul.flow f on f.id = r.flow_id where f.name = 'rare'").await, 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_how_far_it_has_looked_and_goes_on_there() {
    with_database(|db| async move {
        let client = db.client().await;
        db.deploy_single("f", longhaul::Step::new("a", "nobody")).await;
        let oldest = client.start_many("f", 0..1).await.unwrap().ids()[0];
        client.run(oldest).stop().await.unwrap();
        client.start_many("f", 0..250).await.unwrap();
        let mut filter = longhaul::calls::RunFilter {
            state: Some(longhaul::calls::RunState::Cancelled),
            look: 100,
            ..Default::default()
        };
        let mut rounds = 0;
        let page = loop {
            let page = client.find(&filter).await.unwrap();
            rounds += 1;
            match page.looked_to {
                Some(id) if page.runs.is_empty() => filter.before = Some(id),
                _ => break page,
            }
        };
        assert_eq!(page.runs.iter().map(|run| run.id).collect::<Vec<_>>(), [oldest]);
        assert_eq!((rounds, page.looked_to), (3, None));
        // Live ones are found by the rooms: the pause of the oldest is not hidden by what came after.
        client.run(oldest).retry().await.unwrap();
        client.run(oldest).pause().await.unwrap();
        let paused =
            longhaul::calls::RunFilter { state: Some(longhaul::calls::RunState::Paused), ..Default::default() };
        assert_eq!(client.list(&paused).await.unwrap()[0].id, oldest);
        let statistics: (i64, bool) = {
            let stats = db.calls().await.retention_stats("default").await.unwrap();
            (stats[0].total, stats[0].estimated)
        };
        assert_eq!(statistics, (251, false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_flows_are_deployed_in_time_that_grows_with_their_size_only() {
    with_database(|db| async move {
        let asking = OperationOptions::connect(&db).await;
        // Twelve thousand steps in layers, two edges into each, each looking at the output of one far above.
        asking
            .execute(
                "set statement_timeout = '60s';
                 select longhaul.deploy('default', jsonb_build_object('name', 'large', 'version', 1, 'steps', (
                   select jsonb_agg(jsonb_build_object('name', 's' || i, 'handler', 'h', 'after', case when i < 100 then '[]'::jsonb else
                            jsonb_build_array('s' || (i - 100), 's' || ((i / 100 - 1) * 100 + (i + 7) % 100)) end)
                          || case when i >= 100 then jsonb_build_object('input', '$.steps.s' || (i % 100)) else '{}' end order by i)
                   from generate_series(0, 11999) i)))",
            )
            .await;
        let stored: (i64, i64, i64) = {
            let sql = "select count(*), sum(predecessors), count(*) filter (where plain) from longhaul.flow_step";
            let row = asking.client.query_one(sql, &[]).await.unwrap();
            (row.get(0), row.get(1), row.get(2))
        };
        assert_eq!(stored, (12_000, 2 * 11_900, 100));
        let phases = "select longhaul.deploy('default', jsonb_build_object('name', 'phases', 'version', 1, 'phases', (
                        select jsonb_agg(jsonb_build_object('name', 'p' || p, 'steps', (
                          select jsonb_agg(jsonb_build_object('name', format('s%s-%s', p, i), 'handler', 'h')) from generate_series(1, 4) i)))
                        from generate_series(1, 1500) p)))";
        asking.execute(phases).await;
        assert_eq!(db.value::<i64>("select sum(predecessors)::bigint from longhaul.flow_step s join longhaul.flow f on f.id = s.flow_id where f.name = 'phases'").await, 1499 * 16);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_costs_the_same_however_many_its_run_has_been_sent() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("f", 1).step(Step::wait_signal("a", longhaul::WaitSignal::new("go")))).await.unwrap();
        let run = client.start("f", &1).await.unwrap();
        // Thousands that it has consumed, and thousands that it has not asked for.
        for (topic, consumed) in [("go", "longhaul.clock()"), ("other", "null")] {
            db.execute(&format!(
                "insert into longhaul.signal (tenant, run_id, topic, scope, payload, sent_at, sent_by, expires_at, consumed_at)
                 select 'default', '{}', '{topic}', 'one', '1', longhaul.clock(), 'x', longhaul.clock() + interval '1 day', {consumed}
                 from generate_series(1, 5000)",
                run.id()
            ))
            .await;
        }
        for statistics in ["", "analyze longhaul.signal"] {
            let mut session = longhaul::Database::new(&db.config).unwrap().connection().await.unwrap();
            session.batch_execute(statistics).await.unwrap();
            let transaction = session.transaction().await.unwrap();
            let id = run.id();
            transaction.query("select longhaul.signal_run('default', $1, 'go', '7')", &[&id]).await.unwrap();
            let read = "select (seq_tup_read + idx_tup_fetch)::bigint from pg_stat_xact_user_tables where relid = 'longhaul.signal'::regclass";
            let read: i64 = transaction.query_one(read, &[]).await.unwrap().get(0);
            assert!(read < 100, "{read} signals were read, {statistics}");
            let state = "select state::text from longhaul.runs where id = $1";
            assert_eq!(transaction.query_one(state, &[&id]).await.unwrap().get::<_, String>(0), "completed");
        }
    })
    .await;
}
