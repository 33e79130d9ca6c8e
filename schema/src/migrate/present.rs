//! What is there: the server, and the installation in the schema.

use tokio_postgres::GenericClient;

use super::{HISTORY, known_version, ours};
use crate::{Error, Result, SchemaName, calls::Executor};

/// Oldest server that has what the functions use.
const OLDEST_SERVER: i32 = 14;

/// Version of the installation, asked as the calls ask: within their time.
pub(super) async fn version_for_programs(connection: &impl Executor, schema: &SchemaName) -> Result<Option<u32>> {
    let history = format!("{schema}.{HISTORY}");
    let rows = connection.rows("select to_regclass($1) is not null", &[&history]).await?;
    if !rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(None);
    }
    let rows = connection.rows(&format!("select max(version)::int from {history}"), &[]).await?;
    let version: Option<i32> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(version.map(|v| v as u32))
}

/// Oldest schema version whose programs are served; none at all when the installation does not say it.
pub(super) async fn serves_from(connection: &impl Executor, schema: &SchemaName) -> Result<u32> {
    let function = format!("{schema}.serves_from()");
    let rows = connection.rows("select to_regprocedure($1) is not null", &[&function]).await?;
    if !rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(u32::MAX);
    }
    let rows = connection.rows(&format!("select {function}"), &[]).await?;
    Ok(rows.first().map(|row| row.try_get::<_, i32>(0)).transpose()?.map_or(u32::MAX, |version| version as u32))
}

/// Version of the installation; `None` when there is none. Fails when the table of that name is another program's.
pub(super) async fn installed_version(client: &impl GenericClient, schema: &SchemaName) -> Result<Option<u32>> {
    let history = format!("{schema}.{HISTORY}");
    let there: bool = client.query_one("select to_regclass($1) is not null", &[&history]).await?.try_get(0)?;
    if !there {
        return Ok(None);
    }
    let theirs = || {
        Error::Refused(format!("table {HISTORY} of schema {schema} is another program's; install into another schema"))
    };
    let sql = format!("select max(version)::int, bool_or(version = 1 and name = 'rooms') from {history}");
    let row = match client.query_one(&sql, &[]).await {
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_COLUMN) => return Err(theirs()),
        row => row?,
    };
    match (row.try_get::<_, Option<i32>>(0)?, row.try_get::<_, Option<bool>>(1)?) {
        // A process may have ended after it had made the table.
        (None, _) => Ok(None),
        (Some(version), Some(true)) => Ok(Some(version as u32)),
        _ => Err(theirs()),
    }
}

pub(super) async fn refuse_newer(client: &impl GenericClient, schema: &SchemaName) -> Result<()> {
    match installed_version(client, schema).await? {
        Some(found) if found > known_version() => Err(Error::TooNew { found, known: known_version() }),
        _ => Ok(()),
    }
}

/// Fails when a row of the history is not as it was written: the library that reads it would not survive that.
pub(super) async fn refuse_damaged_history(client: &impl GenericClient, schema: &SchemaName) -> Result<()> {
    let history = format!("{schema}.{HISTORY}");
    let there: bool = client.query_one("select to_regclass($1) is not null", &[&history]).await?.try_get(0)?;
    if !there {
        return Ok(());
    }
    let sql = format!(
        "select version from {history}
         where version is null or name is null or coalesce(checksum, '') !~ '^[0-9]{{1,19}}$|^1[0-9]{{19}}$'
            or coalesce(applied_on, '') !~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.][0-9]+)?(Z|[+-][0-9]{{2}}:[0-9]{{2}})$'
         limit 1"
    );
    match client.query_opt(&sql, &[]).await? {
        None => Ok(()),
        Some(row) => Err(Error::Corrupt(format!(
            "the row of version {} in {history} is damaged",
            row.try_get::<_, Option<i32>>(0)?.map_or("null".into(), |version| version.to_string())
        ))),
    }
}

/// Fails when the server is too old, or the database has another encoding than UTF8.
pub(super) async fn refuse_unfit_server(client: &impl GenericClient) -> Result<()> {
    let sql = "select current_setting('server_version'), current_setting('server_version_num')::int / 10000,
                      current_setting('server_encoding'), current_database()::text";
    let row = client.query_one(sql, &[]).await?;
    refuse_unfit(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)
}

fn refuse_unfit(server: &str, major: i32, encoding: &str, database: &str) -> Result<()> {
    if major < OLDEST_SERVER {
        return Err(Error::Refused(format!(
            "the server is PostgreSQL {server}; Longhaul needs {OLDEST_SERVER} or a newer one"
        )));
    }
    if encoding != "UTF8" {
        return Err(Error::Refused(format!(
            "database {database} has the encoding {encoding}; Longhaul needs UTF8 (create database … encoding 'UTF8' template template0)"
        )));
    }
    Ok(())
}

pub(super) async fn installed_checksum(client: &impl GenericClient, schema: &SchemaName) -> Result<Option<String>> {
    if !ours::is_there(client, schema, "installed_functions").await? {
        return Ok(None);
    }
    Ok(Some(client.query_one(&format!("select {schema}.installed_functions()"), &[]).await?.try_get(0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_servers_are_refused_with_the_reason() {
        refuse_unfit("14.0", 14, "UTF8", "app").unwrap();
        for (server, major, encoding, reason) in [
            ("13.14", 13, "UTF8", "PostgreSQL 13.14"),
            ("16.2", 16, "LATIN1", "LATIN1"),
            ("16.2", 16, "SQL_ASCII", "SQL_ASCII"),
        ] {
            let error = refuse_unfit(server, major, encoding, "app").unwrap_err();
            assert!(matches!(&error, Error::Refused(text) if text.contains(reason)), "{error}");
        }
    }
}
