//! What in a schema is Longhaul's and what is not: only the former is ever replaced, dropped or changed.

use longhaul::{Database, Error, migrate};

use crate::harness::{TestDb, with_database};

/// Makes the installation one of another release: with another checksum, and a list that holds these as well.
async fn as_of_another_release(db: &TestDb, made: &str) {
    db.execute(&format!(
        "create or replace function longhaul.installed_functions() returns text language sql as $$select 'of another release'$$;
         do $do$ begin
           execute format('create or replace function longhaul.installed_objects() returns text[] language sql as $$select %L::text[]$$',
             longhaul.installed_objects() || array[{made}]);
         end $do$"
    ))
    .await;
}

const OTHERS: &str = "
  create function longhaul.mine(int) returns int language sql as 'select $1 * 2';
  create function longhaul.mine(text) returns text language sql as 'select $1';
  create view longhaul.my_runs as select id from longhaul.runs;
  create procedure longhaul.my_procedure() language sql as 'select 1'";

async fn count_others(db: &TestDb) -> i64 {
    db.value(
        "select (select count(*) from pg_proc where pronamespace = 'longhaul'::regnamespace and proname in ('mine', 'my_procedure'))
              + (select count(*) from pg_class where relnamespace = 'longhaul'::regnamespace and relname = 'my_runs')",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_functions_are_installed_and_ours_that_are_forgotten_are_removed() {
    with_database(|db| async move {
        db.execute(
            "create function longhaul.of_another_release(longhaul.run, timestamptz) returns int language sql as $$select 1$$;
             create view longhaul.view_of_another_release as select 1 as one;
             create view longhaul.another_of_another_release as select one from longhaul.view_of_another_release",
        )
        .await;
        db.execute(OTHERS).await;
        as_of_another_release(
            &db,
            "'function of_another_release(run, timestamp with time zone)', 'view view_of_another_release',
             'view another_of_another_release', 'function long_gone()'",
        )
        .await;
        let plan = migrate::plan(&db.database).await.unwrap();
        for drop in [
            "drop function if exists longhaul.of_another_release(run, timestamp with time zone);",
            "drop view if exists longhaul.another_of_another_release, longhaul.view_of_another_release;",
        ] {
            assert!(plan.contains(drop), "the plan shows: {drop}");
        }
        assert!(!plan.contains(".mine") && !plan.contains("my_runs") && !plan.contains("my_procedure"), "what is not ours is not in the plan");

        let done = migrate::migrate(&db.database).await.unwrap();
        assert!(done.applied.is_empty() && done.functions);
        for name in ["view_of_another_release", "another_of_another_release"] {
            assert!(!db.value::<bool>(&format!("select to_regclass('longhaul.{name}') is not null")).await, "{name}");
        }
        assert_eq!(db.value::<i64>("select count(*) from pg_proc where proname = 'of_another_release'").await, 0);
        assert!(db.value::<bool>("select to_regprocedure('longhaul.claim(bigint, text[], integer[], bigint)') is not null").await);
        assert_eq!(count_others(&db).await, 4, "an operator's own are left alone");
        assert_eq!(
            db.value::<Option<String>>("select array_to_string(proconfig, ',') from pg_proc where proname = 'mine' limit 1").await,
            None,
            "and not changed"
        );
        assert_eq!(migrate::plan(&db.database).await.unwrap(), "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_a_list_is_upgraded_and_keeps_what_is_not_ours() {
    with_database(|db| async move {
        // As the release before left it: no list, none of the functions that are new since, a function that it had and this one has
        // not, and an operator's own.
        let known: Vec<&str> = include_str!("../../schema/src/migrate/before_lists.txt").lines().collect();
        let listed: Vec<String> = db.value("select longhaul.installed_objects()").await;
        for object in listed.iter().map(|o| o.replace("timestamp with time zone", "timestamptz")) {
            if object != "function installed_objects()" && !known.contains(&object.as_str()) {
                // Some go with others.
                let object = object.replacen(' ', " if exists ", 1);
                db.execute(&format!("set search_path = longhaul; drop {object} cascade; reset search_path")).await;
            }
        }
        db.execute(
            "drop function longhaul.installed_objects();
             create or replace function longhaul.installed_functions() returns text language sql as $$select 'of the release before'$$;
             create function longhaul.stop_run(text, uuid) returns int language sql as 'select 1'",
        )
        .await;
        // The view that the operator's own stands on went with a function that is new.
        let runs = include_str!("released_version.sql").lines().find(|line| line.starts_with("create view runs ")).unwrap();
        db.execute(&format!("set search_path = longhaul; {runs} reset search_path")).await;
        db.execute(OTHERS).await;
        let done = migrate::migrate(&db.database).await.unwrap();
        assert!(done.functions);
        assert_eq!(db.value::<i64>("select count(*) from pg_proc where proname = 'stop_run'").await, 1, "the old one is gone");
        assert_eq!(count_others(&db).await, 4);
        let listed: Vec<String> = db.value("select longhaul.installed_objects()").await;
        assert!(listed.iter().any(|o| o == "view runs") && !listed.iter().any(|o| o.contains("mine")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_names_exactly_what_is_installed() {
    let db = TestDb::create_empty().await;
    migrate::migrate(&db.database).await.unwrap();
    let differs: Vec<String> = db
        .value(
            "with there (name) as (
               select 'function ' || p.proname || '(' || replace(oidvectortypes(p.proargtypes), 'longhaul.', '') || ')'
               from pg_proc p where p.pronamespace = 'longhaul'::regnamespace
               union all
               select 'view ' || c.relname from pg_class c where c.relnamespace = 'longhaul'::regnamespace and c.relkind = 'v'),
             listed (name) as (select unnest(longhaul.installed_objects()))
             select coalesce(array_agg(d.name), '{}') from (
               (table there except table listed) union all (table listed except table there)) d (name)",
        )
        .await;
    assert_eq!(differs, Vec::<String>::new());
    // And each that reads tables has our search path, unless its names are settled: it has no text that is read anew then.
    let bare: Vec<String> = db
        .value(
            "select coalesce(array_agg(p.proname::text), '{}') from pg_proc p
             where p.pronamespace = 'longhaul'::regnamespace and p.provolatile <> 'i'
               and not coalesce('search_path=longhaul, pg_catalog, pg_temp' = any (p.proconfig), false)
               and p.prosqlbody is null",
        )
        .await;
    assert_eq!(bare, Vec::<String>::new());
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_others_use_is_refused_unless_it_is_asked_for() {
    let mut db = TestDb::create_empty().await;
    db.config = db.config.clone().schema("public").unwrap();
    db.database = Database::new(&db.config).unwrap();
    db.execute(
        "create function my_business_rule(int) returns int language sql as 'select $1 * 2';
         create table customers (id int);
         create type mood as enum ('good', 'bad')",
    )
    .await;
    for outcome in [migrate::migrate(&db.database).await.map(|_| ()), migrate::plan(&db.database).await.map(|_| ())] {
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(text) if text.contains("function my_business_rule, table customers")),
            "{error}"
        );
    }
    assert!(!db.value::<bool>("select to_regclass('public.run') is not null").await, "nothing was made");

    // Asked for, it works, and what is there stays as it is.
    let share = migrate::Options::default().share_schema(true);
    migrate::migrate_with(&db.database, share).await.unwrap();
    assert_eq!(db.value::<i32>("select my_business_rule(4)").await, 8);
    db.execute("create or replace function installed_functions() returns text language sql as $$select 'older'$$")
        .await;
    assert!(migrate::migrate(&db.database).await.unwrap().functions, "an upgrade need not be asked for again");
    assert_eq!(db.value::<i32>("select my_business_rule(4)").await, 8);
    db.drop_database().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_one_of_our_names_is_never_replaced() {
    let mut db = TestDb::create_empty().await;
    db.config = db.config.clone().schema("shared").unwrap();
    db.database = Database::new(&db.config).unwrap();
    db.execute(
        "create schema shared; create function shared.clock() returns timestamptz language sql as 'select now()'",
    )
    .await;
    let share = migrate::Options::default().share_schema(true);
    let error = migrate::migrate_with(&db.database, share).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(text) if text.contains("function clock()")), "{error}");
    assert!(!db.value::<bool>("select to_regclass('shared.run') is not null").await, "nothing was made");

    // The table of another program's migrations.
    db.execute("drop function shared.clock(); create table shared.schema_history (version int, name text); insert into shared.schema_history values (1, 'users')").await;
    let error = migrate::migrate_with(&db.database, share).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(text) if text.contains("another program's")), "{error}");
    db.drop_database().await;
}
