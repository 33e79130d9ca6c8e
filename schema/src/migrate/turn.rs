//! Processes that migrate at the same time take turns.

use std::time::{Duration, Instant};

use crate::{Result, SchemaName, backoff::Backoff};

/// How often a process that waits says for whom.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Waits until no other process migrates this schema; the turn ends with the connection.
pub(super) async fn wait_for(client: &tokio_postgres::Client, schema: &SchemaName) -> Result<()> {
    let mut said: Option<Instant> = None;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
    while !try_it(client, schema).await? {
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            if let Some(holder) = holder(client, schema).await? {
                tracing::warn!(%schema, "waiting for another migration of this schema: {holder}");
            }
        }
        backoff.wait().await;
    }
    Ok(())
}

async fn try_it(client: &tokio_postgres::Client, schema: &SchemaName) -> Result<bool> {
    let sql = "select pg_try_advisory_lock(hashtextextended('longhaul.migrate.' || $1::text, 0))";
    Ok(client.query_one(sql, &[&schema.as_str()]).await?.try_get(0)?)
}

/// Who has the turn, and since when, as far as this user may see it; `None` when it has just ended.
pub(super) async fn holder(client: &tokio_postgres::Client, schema: &SchemaName) -> Result<Option<String>> {
    let sql = "
        select format('process %s of user %s (%s) from %s, connected since %s', l.pid, coalesce(a.usename, '?'),
          coalesce(nullif(a.application_name, ''), '?'), coalesce(host(a.client_addr), 'this machine'),
          coalesce(to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS OF'), '?'))
        from (select hashtextextended('longhaul.migrate.' || $1::text, 0) as key) k
        join pg_catalog.pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 1
          and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
          and l.classid = ((k.key >> 32) & 4294967295)::oid and l.objid = (k.key & 4294967295)::oid
        left join pg_catalog.pg_stat_activity a on a.pid = l.pid";
    Ok(client.query_opt(sql, &[&schema.as_str()]).await?.map(|row| row.try_get(0)).transpose()?)
}
