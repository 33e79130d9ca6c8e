//! Installing and upgrading.

use longhaul::{Database, Error, Flow, Step, StepContext, StepError, migrate};
use serde_json::Value;

use crate::harness::{TestDb, eventually, with_database, within};

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_processes_that_migrate_at_once_one_does_the_work() {
    let db = TestDb::create_empty().await;
    // A pool of its own for each, as processes have.
    let pools: Vec<Database> = (0..20).map(|_| Database::new(&db.config.clone().pool_size(1)).unwrap()).collect();
    let outcomes = futures::future::join_all(pools.iter().map(migrate::migrate)).await;
    let outcomes: Vec<migrate::Migrated> = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|m| !m.applied.is_empty()).count(), 1);
    assert_eq!(outcomes.iter().filter(|m| m.functions).count(), 1);
    assert!(outcomes.iter().all(|m| m.version == migrate::known_version()));
    migrate::check(&db.database).await.unwrap();
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_database_is_refused_with_both_versions() {
    with_database(|db| async move {
        db.execute("insert into longhaul.schema_history (version, name, applied_on, checksum) values (999, 'future', now()::text, '0')").await;
        db.execute("create or replace function longhaul.serves_from() returns integer language sql immutable as 'select 998'").await;
        for outcome in [
            migrate::migrate(&db.database).await.map(|_| ()),
            migrate::check(&db.database).await.map(|_| ()),
            migrate::plan(&db.database).await.map(|_| ()),
        ] {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::TooNew { found: 999, .. }));
            assert!(
                error.to_string().contains("999") && error.to_string().contains(&migrate::known_version().to_string()),
                "{error}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_go_on_beside_a_newer_database_that_serves_them_and_do_not_migrate_it() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.execute("insert into longhaul.schema_history (version, name, applied_on, checksum) values (999, 'future', now()::text, '0')").await;
        assert_eq!(migrate::check(&db.database).await.unwrap(), 999);
        // A client and a worker that start only now, as when a process of the old release is restarted.
        let client = db.client().await;
        let worker = db.spawn(db.worker().handler("h", |_: StepContext, _: Value| async { Ok::<_, StepError>(7) }));
        let run = client.start("one", &1).await.unwrap();
        assert_eq!(within("the run", run.output::<i32>()).await.unwrap(), 7);
        worker.stop().await;
        assert!(matches!(migrate::migrate(&db.database).await, Err(Error::TooNew { found: 999, .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_what_would_be_done_and_does_nothing() {
    let db = TestDb::create_empty().await;
    let plan = migrate::plan(&db.database).await.unwrap();
    assert!(plan.contains("create table task") && plan.contains("create or replace function claim("));
    assert!(!db.value::<bool>("select to_regnamespace('longhaul') is not null").await);
    assert!(matches!(migrate::check(&db.database).await, Err(Error::NotInstalled(_))));

    migrate::migrate(&db.database).await.unwrap();
    assert_eq!(migrate::plan(&db.database).await.unwrap(), "");
    let again = migrate::migrate(&db.database).await.unwrap();
    assert!(again.applied.is_empty() && !again.functions);
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_broke_off_is_completed() {
    let db = TestDb::create_empty().await;
    // After the table of migrations, and after the tables.
    db.execute("create schema longhaul; create table longhaul.schema_history (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))").await;
    migrate::make_tables_of(&db.database, 2).await.unwrap();
    let done = migrate::migrate(&db.database).await.unwrap();
    assert!(!done.applied.contains(&2) && done.functions);
    migrate::check(&db.database).await.unwrap();
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_refused_before_anything_is_made() {
    let db = TestDb::create_empty().await;
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = format!("{}_{}", db.name, encoding.to_lowercase());
        db.execute(&format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        ))
        .await;
        let other = TestDb::open(&name);
        let error = migrate::migrate(&other.database).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.contains(encoding) && text.contains("UTF8")), "{error}");
        assert!(!other.value::<bool>("select to_regnamespace('longhaul') is not null").await);
        other.drop_database().await;
    }
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_made_by_an_administrator_needs_no_right_to_make_one() {
    let db = TestDb::create_empty().await;
    let role = format!("owner_{}", std::process::id());
    db.execute(&format!("create role {role} login; create schema longhaul authorization {role}")).await;
    let mut restricted = db.clone();
    restricted.config.connection.postgres.options(format!("-c role={role}"));
    restricted.database = Database::new(&restricted.config).unwrap();
    migrate::migrate(&restricted.database).await.unwrap();
    restricted
        .execute(
            "create or replace function longhaul.installed_functions() returns text language sql as $$select 'older'$$",
        )
        .await;
    assert!(migrate::migrate(&restricted.database).await.unwrap().functions);
    restricted.database.close();
    // Without the schema the missing right is named.
    let mut other = db.clone();
    other.config = restricted.config.clone().schema("second").unwrap();
    other.database = Database::new(&other.config).unwrap();
    let error = migrate::migrate(&other.database).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("permission denied for database")), "{error}");
    other.database.close();
    db.execute(&format!("drop owned by {role} cascade; drop role {role}")).await;
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_another_one_and_can_say_for_whom() {
    let db = TestDb::create_empty().await;
    let connection = db.database.connection().await.unwrap();
    connection
        .batch_execute("select pg_advisory_lock(hashtextextended('longhaul.migrate.longhaul', 0))")
        .await
        .unwrap();
    let pid: i32 = connection.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let holder = migrate::who_migrates(&db.database).await.unwrap().expect("somebody does");
    assert!(holder.contains(&format!("process {pid} ")) && holder.contains("since"), "{holder}");
    let migrating = tokio::spawn({
        let database = db.database.clone();
        async move { migrate::migrate(&database).await }
    });
    connection.batch_execute("select pg_advisory_unlock_all()").await.unwrap();
    within("the migration", migrating).await.unwrap().unwrap();
    eventually("nobody migrates any more", || async { migrate::who_migrates(&db.database).await.unwrap().is_none() })
        .await;
    drop(connection);
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_what_a_migration_does() {
    let db = TestDb::create_empty().await;
    let plan = migrate::plan(&db.database).await.unwrap();
    // By hand, as an administrator would do it.
    db.execute(&plan).await;
    assert_eq!(migrate::plan(&db.database).await.unwrap(), "", "nothing is left to do");
    let done = migrate::migrate(&db.database).await.unwrap();
    assert!(done.applied.is_empty() && !done.functions);
    migrate::check(&db.database).await.unwrap();
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_can_be_replaced_while_workers_are_busy() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("two", 1).step(Step::new("a", "h")).step(Step::new("b", "h").after("a"))).await.unwrap();
        let work = |_: longhaul::StepContext, _: i64| async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            Ok::<_, longhaul::StepError>(())
        };
        let worker = db.spawn(db.worker().lease(std::time::Duration::from_secs(60)).handler("h", work));
        let (mut replaced, mut runs) = (0, 0);
        loop {
            if db.value::<i64>("select count(*) from longhaul.run where state = 'running'").await == 0 {
                if replaced >= 2 {
                    break;
                }
                client.start_many("two", 0..3_000).await.unwrap();
                runs += 3_000;
            }
            db.execute("create or replace function longhaul.installed_functions() returns text language sql as $$select 'older'$$").await;
            assert!(migrate::migrate(&db.database).await.unwrap().functions);
            replaced += 1;
        }
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run where state = 'completed'").await, runs);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt").await, 0);
        assert_eq!(worker.stop().await.lost, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_installations_share_a_database() {
    with_database(|db| async move {
        let mut other = db.clone();
        other.config = db.config.clone().schema("jobs_2").unwrap();
        other.database = Database::new(&other.config).unwrap();
        migrate::migrate(&other.database).await.unwrap();
        for db in [&db, &other] {
            db.client().await.deploy(&Flow::new("one", 1).step(Step::new("a", "double"))).await.unwrap();
            let double = |_: longhaul::StepContext, n: i64| async move { Ok::<_, longhaul::StepError>(n * 2) };
            let worker = db.spawn(db.worker().handler("double", double));
            let run = db.client().await.start("one", &4).await.unwrap();
            assert_eq!(crate::harness::within("the run", run.output::<i64>()).await.unwrap(), 8);
            worker.stop().await;
        }
        assert_eq!(db.value::<i64>("select count(*) from jobs_2.run").await, 1);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.run").await, 1);
        other.assert_rooms_are_sound().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_lie_in_partitions_made_ahead_of_their_time() {
    with_database(|db| async move {
        db.deploy_single("one", Step::new("a", "h")).await;
        db.client().await.start_many("one", 0..10).await.unwrap();
        for table in ["run", "step", "attempt", "fan_out", "checkpoint", "event"] {
            assert_eq!(db.value::<i64>(&format!("select count(*) from longhaul.{table}_default")).await, 0);
            let ahead: i64 = db
                .value(&format!("select count(*) from pg_inherits where inhparent = 'longhaul.{table}'::regclass"))
                .await;
            assert!(ahead >= 5, "{table} has {ahead} partitions");
        }
        assert_eq!(db.value::<i64>("select longhaul.make_partitions()").await, 0, "they are there already");
        db.execute("select longhaul.set_setting('partitions_ahead', 6)").await;
        assert_eq!(db.value::<i64>("select longhaul.make_partitions()").await, 12, "two more of each of six tables");
        // Every partition leads to the next without a gap: an id of any coming day has one.
        db.execute("insert into longhaul.attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome)
                    select longhaul.uuid_at(now() + d * interval '1 day'), now(), now(), 0, 0, 0, 'failed' from generate_series(0, 40) d").await;
        assert_eq!(db.value::<i64>("select count(*) from longhaul.attempt_default").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_the_schema_says_what_it_is() {
    with_database(|db| async move {
        let silent: Vec<String> = db
            .database
            .connection()
            .await
            .unwrap()
            .query(
                "select c.oid::regclass::text from pg_class c
                 where c.relnamespace = 'longhaul'::regnamespace and c.relkind in ('r', 'p', 'v') and c.relname <> 'schema_history'
                   and obj_description(c.oid, 'pg_class') is null
                 union all
                 select p.oid::regprocedure::text from pg_proc p
                 where p.pronamespace = 'longhaul'::regnamespace and obj_description(p.oid, 'pg_proc') is null",
                &[],
            )
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(silent, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_make_no_sense_are_refused_with_the_names() {
    with_database(|db| async move {
        let client = db.client().await;
        let refused = |flow: Flow| {
            let client = client.clone();
            async move { client.deploy(&flow).await.expect_err("it makes no sense").to_string() }
        };
        let step = |name: &str| Step::new(name, "h");
        let cycle = Flow::new("f", 1)
            .step(step("a").after("c"))
            .step(step("b").after("a"))
            .step(step("c").after("b"))
            .step(step("d"));
        assert!(refused(cycle).await.contains("in a cycle: "));
        assert!(refused(Flow::new("f", 1).step(step("a").after("a"))).await.contains("a -> a"));
        assert!(refused(Flow::new("f", 1).step(step("a").after("x"))).await.contains("step a waits for 'x'"));
        assert!(refused(Flow::new("f", 1).step(step("a")).step(step("a"))).await.contains("two steps named a"));
        assert!(refused(Flow::new("f", 1)).await.contains("1 to 20000 steps"));
        assert!(refused(Flow::new("f", 0).step(step("a"))).await.contains("version must be"));
        assert!(refused(Flow::new("f g", 1).step(step("a"))).await.contains("'f g' is not a flow name"));
        assert!(refused(Flow::new("f", 1).step(step("a b"))).await.contains("step 'a b'"));
        assert!(refused(Flow::new("f", 1).step(Step::new("a", "h..x"))).await.contains("'h..x' is not a handler name"));
        assert!(refused(Flow::new("f", 1).step(step("a").queue("q q"))).await.contains("'q q' is not a queue name"));
        assert!(refused(Flow::new("f", 1).step(step("a").priority(2000))).await.contains("priority"));
        let retry = longhaul::Retry { attempts: 0, ..Default::default() };
        assert!(refused(Flow::new("f", 1).step(step("a").retry(retry))).await.contains("attempts must be"));
        let retry = longhaul::Retry { factor: 0.5, ..Default::default() };
        assert!(refused(Flow::new("f", 1).step(step("a").retry(retry))).await.contains("factor"));
        assert!(client.flows().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_immutable_and_deploying_twice_changes_nothing() {
    with_database(|db| async move {
        let client = db.client().await;
        let flow = Flow::new("f", 1).step(Step::new("a", "h"));
        // Ten at once: one creates.
        let outcomes = futures::future::join_all((0..10).map(|_| client.deploy(&flow))).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(|d| d.unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|d| d.created).count(), 1);
        assert!(outcomes.iter().all(|d| d.flow_id == outcomes[0].flow_id));

        let changed = Flow::new("f", 1).step(Step::new("a", "other"));
        let error = client.deploy(&changed).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict(text) if text.contains("raise the version number")), "{error}");
        // A run stays with its version.
        let old = client.start("f", &1).await.unwrap();
        client.deploy(&Flow { version: 2, ..changed }).await.unwrap();
        let new = client.start("f", &1).await.unwrap();
        assert_eq!((old.get().await.unwrap().version, new.get().await.unwrap().version), (1, 2));
        assert_eq!(client.steps(old.id()).await.unwrap()[0].handler.as_deref(), Some("h"));
    })
    .await;
}
