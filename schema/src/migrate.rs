//! Installing and upgrading: tables by versioned migrations, functions and views from files that show their present form.
//!
//! Functions and views are replaced in one transaction whenever the text of any of their files changed. Processes that
//! migrate at the same time take turns. Only what Longhaul has made is ever replaced or dropped, and what cannot become an
//! installation is refused before anything is made: an old server, another encoding than UTF8, a schema that others use.

use std::fmt::Write;

use tokio_postgres::GenericClient;

use present::{
    installed_checksum, installed_version, refuse_damaged_history, refuse_newer, refuse_unfit_server, serves_from,
    version_for_programs,
};

use crate::{Database, Error, Result, SchemaName, error};

mod ours;
mod present;
mod turn;

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
    ("flow_order.sql", include_str!("../sql/flow_order.sql")),
    ("deploy.sql", include_str!("../sql/deploy.sql")),
    ("wake.sql", include_str!("../sql/wake.sql")),
    ("run_end.sql", include_str!("../sql/run_end.sql")),
    ("expression.sql", include_str!("../sql/expression.sql")),
    ("live_step.sql", include_str!("../sql/live_step.sql")),
    ("ready.sql", include_str!("../sql/ready.sql")),
    ("advance.sql", include_str!("../sql/advance.sql")),
    ("fan_out.sql", include_str!("../sql/fan_out.sql")),
    ("compensation.sql", include_str!("../sql/compensation.sql")),
    ("child.sql", include_str!("../sql/child.sql")),
    ("wait_check.sql", include_str!("../sql/wait_check.sql")),
    ("wait.sql", include_str!("../sql/wait.sql")),
    ("lease.sql", include_str!("../sql/lease.sql")),
    ("checkpoint.sql", include_str!("../sql/checkpoint.sql")),
    ("signal_match.sql", include_str!("../sql/signal_match.sql")),
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
    ("throughput.sql", include_str!("../sql/throughput.sql")),
    ("room_violations.sql", include_str!("../sql/room_violations.sql")),
    ("inspect.sql", include_str!("../sql/inspect.sql")),
    ("why.sql", include_str!("../sql/why.sql")),
    ("explain.sql", include_str!("../sql/explain.sql")),
    ("explain_step.sql", include_str!("../sql/explain_step.sql")),
    ("find_runs.sql", include_str!("../sql/find_runs.sql")),
    ("operate.sql", include_str!("../sql/operate.sql")),
    ("explain_run.sql", include_str!("../sql/explain_run.sql")),
    ("again.sql", include_str!("../sql/again.sql")),
    ("question.sql", include_str!("../sql/question.sql")),
    ("timeline.sql", include_str!("../sql/timeline.sql")),
    ("chore_expire_leases.sql", include_str!("../sql/chore_expire_leases.sql")),
    ("chore_fire_timers.sql", include_str!("../sql/chore_fire_timers.sql")),
    ("chore_make_partitions.sql", include_str!("../sql/chore_make_partitions.sql")),
    ("chore_forget_workers.sql", include_str!("../sql/chore_forget_workers.sql")),
    ("chore_forget_limits.sql", include_str!("../sql/chore_forget_limits.sql")),
    ("schedule.sql", include_str!("../sql/schedule.sql")),
    ("unique.sql", include_str!("../sql/unique.sql")),
    ("lock.sql", include_str!("../sql/lock.sql")),
    ("progress.sql", include_str!("../sql/progress.sql")),
    ("protocol.sql", include_str!("../sql/protocol.sql")),
    ("queue_minute.sql", include_str!("../sql/queue_minute.sql")),
    ("overview.sql", include_str!("../sql/overview.sql")),
    ("sizes.sql", include_str!("../sql/sizes.sql")),
    ("operators.sql", include_str!("../sql/operators.sql")),
    ("retention.sql", include_str!("../sql/retention.sql")),
    ("retention_stats.sql", include_str!("../sql/retention_stats.sql")),
    ("chore_drop_partitions.sql", include_str!("../sql/chore_drop_partitions.sql")),
];

/// What every function and every column of a view gets, once all are there.
const FINISH: &[(&str, &str)] = &[
    ("installation.sql", include_str!("../sql/installation.sql")),
    ("columns.sql", include_str!("../sql/columns.sql")),
];

/// All files, in the order of their installation.
fn sources() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    SOURCES.iter().chain(FINISH)
}

/// Table of the applied migrations, in the schema of the installation.
const HISTORY: &str = "schema_history";

/// What [`migrate_with`] may do.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Install also into a schema that holds other things. They are left alone; a function or view of theirs that has the name of one
    /// of ours is a reason to refuse.
    pub share_schema: bool,
}

impl Options {
    /// Whether to install also into a schema that holds other things.
    pub fn share_schema(mut self, share: bool) -> Self {
        self.share_schema = share;
        self
    }
}

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

/// Brings the installation to the version of this program, in a schema of its own. Does nothing when it is there already; refuses when
/// it is newer.
pub async fn migrate(database: &Database) -> Result<Migrated> {
    migrate_with(database, Options::default()).await
}

/// As [`migrate`], with options.
pub async fn migrate_with(database: &Database, options: Options) -> Result<Migrated> {
    let schema = database.schema();
    // Of its own, because a session-level lock and search_path must not go back to the pool.
    let mut connection = database.connection().await?.detach().await?;
    let client: &mut tokio_postgres::Client = &mut connection;
    turn::wait_for(client, schema).await?;
    let work = Work::look(client, schema, options).await?;
    client.batch_execute(&work.preparation).await?;

    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(client).await.map_err(|e| migration_error(&e))?;
    let applied = report.applied_migrations().iter().map(|m| m.version() as u32).collect::<Vec<_>>();
    if let Some(functions) = &work.functions {
        let transaction = client.transaction().await?;
        for (name, sql) in functions {
            transaction.batch_execute(sql).await.map_err(|e| located(name, e))?;
        }
        transaction.commit().await?;
    }
    // The lock ends with the connection.
    Ok(Migrated { applied, functions: work.functions.is_some(), version: known_version() })
}

/// Who migrates this schema at the moment, and since when; `None` when nobody does.
pub async fn who_migrates(database: &Database) -> Result<Option<String>> {
    let connection = database.connection().await?;
    turn::holder(&connection, database.schema()).await
}

/// Makes the tables of an older version, without functions: for tests of upgrades.
#[doc(hidden)]
pub async fn make_tables_of(database: &Database, version: u32) -> Result<()> {
    let mut connection = database.connection().await?.detach().await?;
    let client: &mut tokio_postgres::Client = &mut connection;
    let schema = database.schema();
    client.batch_execute(&format!("create schema if not exists {schema}; set search_path = {schema};")).await?;
    let mut runner = embedded::migrations::runner().set_target(refinery::Target::Version(version as _));
    runner.set_migration_table_name(HISTORY);
    runner.run_async(client).await.map_err(|e| migration_error(&e))?;
    Ok(())
}

/// The SQL that [`migrate`] would run now; empty when there is nothing to do. What it would refuse is refused here as well.
pub async fn plan(database: &Database) -> Result<String> {
    plan_with(database, Options::default()).await
}

/// As [`plan`], with options.
pub async fn plan_with(database: &Database, options: Options) -> Result<String> {
    let connection = database.connection().await?;
    let client: &tokio_postgres::Client = &connection;
    let work = Work::look(client, database.schema(), options).await?;
    let mut text = String::new();
    if work.present.is_none() {
        let _ = writeln!(
            text,
            "create table if not exists {HISTORY} (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255));\n"
        );
    }
    let runner = embedded::migrations::runner();
    let mut migrations: Vec<_> = runner.get_migrations().iter().collect();
    // The files' order is that of their names, in which 10 comes before 2.
    migrations.sort_by_key(|migration| migration.version());
    for migration in migrations {
        if work.present.is_none_or(|present| migration.version() as u32 > present) {
            let (version, name, checksum) = (migration.version(), migration.name(), migration.checksum());
            let _ = writeln!(
                text,
                "-- migration {migration}\nbegin;\n{}\ninsert into {HISTORY} (version, name, applied_on, checksum)
values ({version}, '{name}', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{checksum}');\ncommit;\n",
                migration.sql().unwrap_or_default(),
            );
        }
    }
    if let Some(functions) = &work.functions {
        text.push_str("begin;\n");
        for (name, sql) in functions {
            let _ = writeln!(text, "-- {name}\n{sql}");
        }
        text.push_str("commit;\n");
    }
    Ok(if text.is_empty() { text } else { format!("{}\n\n{text}", work.preparation.replace("; ", ";\n")) })
}

/// What is to be done, beside the migrations.
struct Work {
    /// Version of the installation that is there.
    present: Option<u32>,
    /// Makes the schema unless it is there, and works in it.
    preparation: String,
    /// The statements that install functions and views, by file; `None` when they are there already.
    functions: Option<Vec<(&'static str, String)>>,
}

impl Work {
    /// Looks at what is there, and refuses whatever cannot become an installation of this release.
    async fn look(client: &impl GenericClient, schema: &SchemaName, options: Options) -> Result<Self> {
        refuse_unfit_server(client).await?;
        refuse_newer(client, schema).await?;
        let present = installed_version(client, schema).await?;
        refuse_damaged_history(client, schema).await?;
        if present.is_none() && !options.share_schema {
            ours::refuse_used_schema(client, schema, HISTORY).await?;
        }
        let there: bool =
            client.query_one("select to_regnamespace($1) is not null", &[&schema.as_str()]).await?.try_get(0)?;
        // An administrator may have made the schema for a user who cannot.
        let create = if there { String::new() } else { format!("create schema {schema}; ") };
        let preparation = format!("{create}set search_path = {schema};");
        let functions = match installed_checksum(client, schema).await? {
            Some(installed) if installed == checksum() => None,
            _ => Some(functions_to_install(client, schema).await?),
        };
        Ok(Self { present, preparation, functions })
    }
}

/// The statements that install functions and views, in one transaction.
async fn functions_to_install(client: &impl GenericClient, schema: &SchemaName) -> Result<Vec<(&'static str, String)>> {
    let (there, before) = (ours::present(client, schema).await?, ours::made_before(client, schema).await?);
    ours::refuse_strangers(schema, &there, &before)?;
    let in_the_way = ours::in_the_way(client, schema, &there, &before).await?;
    let mut files = Vec::new();
    if !in_the_way.is_empty() {
        let statements = ours::statements(schema, &in_the_way.iter().collect::<Vec<_>>());
        files.push(("functions that cannot be replaced as they are", statements));
    }
    files.extend(SOURCES.iter().map(|(name, source)| (*name, (*source).to_owned())));
    let there: ours::Objects = there.difference(&in_the_way).cloned().collect();
    let drops = ours::drops(schema, &there, &before);
    if !drops.is_empty() {
        files.push(("functions and views that this release does not have any more", drops));
    }
    // The checksum and the list are functions themselves: replaced with the others or not at all, and readable by SQL.
    let installed = format!(
        "create or replace function installed_functions() returns text language sql immutable as $$select '{}'$$;
comment on function installed_functions() is 'Checksum of the files that the functions and views were installed from.';
{}",
        checksum(),
        ours::list()
    );
    files.push(("what is installed", installed));
    files.extend(FINISH.iter().map(|(name, source)| (*name, (*source).to_owned())));
    Ok(files)
}

/// Fails unless the installation serves this program, and gives its version: that of this program, or a newer one which
/// still has the calls of this program, so that a fleet can be upgraded process by process after the database.
pub async fn check(database: &Database) -> Result<u32> {
    let connection = database.connection().await?;
    let schema = database.schema();
    match version_for_programs(&connection, schema).await? {
        None => Err(Error::NotInstalled(format!("no schema {schema} with Longhaul's tables"))),
        Some(version) if version < known_version() => Err(Error::NotInstalled(format!(
            "schema version {version} is older than this program's {}",
            known_version()
        ))),
        Some(found) if found > known_version() && known_version() < serves_from(&connection, schema).await? => {
            Err(Error::TooNew { found, known: known_version() })
        }
        Some(version) => Ok(version),
    }
}

/// Version of the newest migration that this program knows.
pub fn known_version() -> u32 {
    embedded::migrations::runner().get_migrations().iter().map(|m| m.version() as u32).max().unwrap_or(0)
}

fn located(file: &str, error: tokio_postgres::Error) -> Error {
    match Error::from(error) {
        transient if transient.is_transient() => transient,
        Error::Denied(message) => Error::Denied(message),
        other => Error::Corrupt(format!("installing {file} failed: {other}")),
    }
}

/// What a failed migration means to a caller. The driver's error is somewhere among the causes.
fn migration_error(error: &refinery::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        if let Some(db) = inner.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error()) {
            let _ = write!(text, " ({})", db.message());
            let described = format!("{} [{}]", db.message(), db.code().code());
            if let Some(known @ (Error::Denied(_) | Error::Unavailable(_))) =
                error::from_server(db.code(), db.message(), described)
            {
                return known;
            }
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
