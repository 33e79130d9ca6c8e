//! Installing and upgrading: tables by versioned migrations, functions and views from files that show their present form.
//!
//! Functions and views are replaced in one transaction whenever the text of any of their files changed. Processes that
//! migrate at the same time wait for each other by an advisory lock.

use std::fmt::Write;

use tokio_postgres::GenericClient;

use crate::{Database, Error, Result, SchemaName};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The files of functions and views, in the order of their installation.
const SOURCES: &[(&str, &str)] = &[
    ("clock.sql", include_str!("../sql/clock.sql")),
    ("chores.sql", include_str!("../sql/chores.sql")),
    ("set_aside.sql", include_str!("../sql/set_aside.sql")),
    ("floor.sql", include_str!("../sql/floor.sql")),
    ("definition.sql", include_str!("../sql/definition.sql")),
    ("deploy.sql", include_str!("../sql/deploy.sql")),
    ("wake.sql", include_str!("../sql/wake.sql")),
    ("run_end.sql", include_str!("../sql/run_end.sql")),
    ("expression.sql", include_str!("../sql/expression.sql")),
    ("ready.sql", include_str!("../sql/ready.sql")),
    ("advance.sql", include_str!("../sql/advance.sql")),
    ("fan_out.sql", include_str!("../sql/fan_out.sql")),
    ("compensation.sql", include_str!("../sql/compensation.sql")),
    ("child.sql", include_str!("../sql/child.sql")),
    ("wait.sql", include_str!("../sql/wait.sql")),
    ("lease.sql", include_str!("../sql/lease.sql")),
    ("checkpoint.sql", include_str!("../sql/checkpoint.sql")),
    ("signal.sql", include_str!("../sql/signal.sql")),
    ("notices.sql", include_str!("../sql/notices.sql")),
    ("start.sql", include_str!("../sql/start.sql")),
    ("claim.sql", include_str!("../sql/claim.sql")),
    ("complete.sql", include_str!("../sql/complete.sql")),
    ("fail.sql", include_str!("../sql/fail.sql")),
    ("worker.sql", include_str!("../sql/worker.sql")),
    ("limits.sql", include_str!("../sql/limits.sql")),
    ("gate.sql", include_str!("../sql/gate.sql")),
    ("views.sql", include_str!("../sql/views.sql")),
    ("operate.sql", include_str!("../sql/operate.sql")),
    ("again.sql", include_str!("../sql/again.sql")),
    ("question.sql", include_str!("../sql/question.sql")),
    ("timeline.sql", include_str!("../sql/timeline.sql")),
    ("chore_expire_leases.sql", include_str!("../sql/chore_expire_leases.sql")),
    ("chore_fire_timers.sql", include_str!("../sql/chore_fire_timers.sql")),
    ("chore_make_partitions.sql", include_str!("../sql/chore_make_partitions.sql")),
    ("chore_forget_workers.sql", include_str!("../sql/chore_forget_workers.sql")),
    ("schedule.sql", include_str!("../sql/schedule.sql")),
    ("unique.sql", include_str!("../sql/unique.sql")),
    ("lock.sql", include_str!("../sql/lock.sql")),
    ("progress.sql", include_str!("../sql/progress.sql")),
    ("retention.sql", include_str!("../sql/retention.sql")),
];

/// What every function gets, once all are there.
const FINISH: (&str, &str) = ("installation.sql", include_str!("../sql/installation.sql"));

/// All files, in the order of their installation.
fn sources() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    SOURCES.iter().chain(std::iter::once(&FINISH))
}

/// Table of the applied migrations, in the schema of the installation.
const HISTORY: &str = "schema_history";

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Versions of the migrations that were applied now.
    pub applied: Vec<u32>,
    /// Whether functions and views were installed now.
    pub functions: bool,
    /// Version of the schema now.
    pub version: u32,
}

/// Brings the installation to the version of this program. Does nothing when it is there already; refuses when it is newer.
pub async fn migrate(database: &Database) -> Result<Migrated> {
    let schema = database.schema();
    // Of its own, because a session-level lock and search_path must not go back to the pool.
    let mut connection = database.connection().await?.detach();
    let client: &mut tokio_postgres::Client = &mut connection;
    client
        .execute("select pg_advisory_lock(hashtextextended('longhaul.migrate.' || $1::text, 0))", &[&schema.as_str()])
        .await?;
    client.batch_execute(&format!("create schema if not exists {schema}; set search_path = {schema};")).await?;

    refuse_newer(client, schema).await?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(client).await.map_err(|e| migration_error(&e))?;
    let applied = report.applied_migrations().iter().map(|m| m.version() as u32).collect::<Vec<_>>();
    let functions = installed_checksum(client, schema).await?.as_deref() != Some(checksum().as_str());
    if functions {
        install_functions(client, schema).await?;
    }
    // The lock ends with the connection.
    Ok(Migrated { applied, functions, version: known_version() })
}

/// Makes the tables of an older version, without functions: for tests of upgrades.
#[doc(hidden)]
pub async fn make_tables_of(database: &Database, version: u32) -> Result<()> {
    let mut connection = database.connection().await?.detach();
    let client: &mut tokio_postgres::Client = &mut connection;
    let schema = database.schema();
    client.batch_execute(&format!("create schema if not exists {schema}; set search_path = {schema};")).await?;
    let mut runner = embedded::migrations::runner().set_target(refinery::Target::Version(version as _));
    runner.set_migration_table_name(HISTORY);
    runner.run_async(client).await.map_err(|e| migration_error(&e))?;
    Ok(())
}

/// The SQL that [`migrate`] would run now; empty when there is nothing to do.
pub async fn plan(database: &Database) -> Result<String> {
    let schema = database.schema();
    let connection = database.connection().await?;
    let client: &tokio_postgres::Client = &connection;
    refuse_newer(client, schema).await?;
    let present = installed_version(client, schema).await?;
    let mut text = String::new();
    for migration in embedded::migrations::runner().get_migrations() {
        if present.is_none_or(|present| migration.version() as u32 > present) {
            let _ = writeln!(text, "-- migration {}\n{}", migration, migration.sql().unwrap_or_default());
        }
    }
    let installed = if present.is_some() { installed_checksum(client, schema).await? } else { None };
    if installed.as_deref() != Some(checksum().as_str()) {
        for (name, source) in sources() {
            let _ = writeln!(text, "-- {name}\n{source}");
        }
    }
    if !text.is_empty() {
        text = format!("create schema if not exists {schema};\nset search_path = {schema};\n\n{text}");
    }
    Ok(text)
}

/// Fails unless the installation serves this program, and gives its version: that of this program, or a newer one which
/// still has the calls of this program, so that a fleet can be upgraded process by process after the database.
pub async fn check(database: &Database) -> Result<u32> {
    let connection = database.connection().await?;
    let client: &tokio_postgres::Client = &connection;
    match installed_version(client, database.schema()).await? {
        None => Err(Error::NotInstalled(format!("no schema {} with Longhaul's tables", database.schema()))),
        Some(version) if version < known_version() => Err(Error::NotInstalled(format!(
            "schema version {version} is older than this program's {}",
            known_version()
        ))),
        Some(found) if found > known_version() && known_version() < serves_from(client, database.schema()).await? => {
            Err(Error::TooNew { found, known: known_version() })
        }
        Some(version) => Ok(version),
    }
}

/// Version of the newest migration that this program knows.
pub fn known_version() -> u32 {
    embedded::migrations::runner().get_migrations().iter().map(|m| m.version() as u32).max().unwrap_or(0)
}

async fn installed_version(client: &impl GenericClient, schema: &SchemaName) -> Result<Option<u32>> {
    let history = format!("{schema}.{HISTORY}");
    let there: bool = client.query_one("select to_regclass($1) is not null", &[&history]).await?.get(0);
    if !there {
        return Ok(None);
    }
    let version: Option<i32> = client.query_one(&format!("select max(version)::int from {history}"), &[]).await?.get(0);
    Ok(version.map(|v| v as u32))
}

async fn refuse_newer(client: &impl GenericClient, schema: &SchemaName) -> Result<()> {
    match installed_version(client, schema).await? {
        Some(found) if found > known_version() => Err(Error::TooNew { found, known: known_version() }),
        _ => Ok(()),
    }
}

/// Oldest schema version whose programs are served; none at all when the installation does not say it.
async fn serves_from(client: &impl GenericClient, schema: &SchemaName) -> Result<u32> {
    let function = format!("{schema}.serves_from()");
    let there: bool = client.query_one("select to_regprocedure($1) is not null", &[&function]).await?.get(0);
    if !there {
        return Ok(u32::MAX);
    }
    Ok(client.query_one(&format!("select {function}"), &[]).await?.get::<_, i32>(0) as u32)
}

async fn installed_checksum(client: &impl GenericClient, schema: &SchemaName) -> Result<Option<String>> {
    let function = format!("{schema}.installed_functions()");
    let there: bool = client.query_one("select to_regprocedure($1) is not null", &[&function]).await?.get(0);
    if !there {
        return Ok(None);
    }
    Ok(Some(client.query_one(&format!("select {function}"), &[]).await?.get(0)))
}

async fn install_functions(client: &mut tokio_postgres::Client, schema: &SchemaName) -> Result<()> {
    let transaction = client.transaction().await?;
    for (name, source) in SOURCES {
        transaction.batch_execute(source).await.map_err(|e| located(name, e))?;
    }
    // The checksum is itself a function: replaced with the others or not at all, and readable by SQL.
    transaction
        .batch_execute(&format!(
            "create or replace function installed_functions() returns text language sql immutable as $$select '{}'$$;
             comment on function installed_functions() is 'Checksum of the files that the functions and views were installed from.';",
            checksum()
        ))
        .await?;
    // What none of the files defines any more was not written by this transaction.
    let stale = transaction
        .query(
            "select p.oid::regprocedure::text from pg_proc p
             where p.pronamespace = to_regnamespace($1) and p.prokind = 'f' and p.xmin::text::bigint <> (txid_current() % (2^32)::bigint)",
            &[&schema.as_str()],
        )
        .await?;
    for row in stale {
        transaction.batch_execute(&format!("drop function {}", row.get::<_, String>(0))).await?;
    }
    transaction.batch_execute(FINISH.1).await.map_err(|e| located(FINISH.0, e))?;
    transaction.commit().await?;
    Ok(())
}

fn located(file: &str, error: tokio_postgres::Error) -> Error {
    match Error::from(error) {
        transient if transient.is_transient() => transient,
        Error::Denied(message) => Error::Denied(message),
        other => Error::Corrupt(format!("installing {file} failed: {other}")),
    }
}

fn migration_error(error: &refinery::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        if let Some(db) = inner.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error()) {
            let _ = write!(text, " ({})", db.message());
        }
        cause = inner.source();
    }
    Error::Corrupt(format!("a migration failed: {text}"))
}

/// FNV-1a (Fowler, Noll, Vo) over all sources: it tells changed from unchanged, no more is asked of it.
fn checksum() -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, source) in sources() {
        for byte in name.bytes().chain(source.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
