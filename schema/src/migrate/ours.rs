//! What in the schema is ours: the functions and views that the files make, and those that an earlier release made.
//!
//! A release writes down what it has installed, in the function `installed_objects()`. The next one drops what stands in that list and
//! is not made any more, and nothing else: whatever other people keep in the schema is theirs. Nor is anything of theirs replaced: a
//! function or view of theirs that has the name of one of ours stops the installation before it begins.

use std::collections::BTreeSet;

use tokio_postgres::GenericClient;

use super::sources;
use crate::{Error, Result, SchemaName};

/// Functions and views, as `function claim(bigint, text[])` and `view runs`.
pub(super) type Objects = BTreeSet<String>;

/// What releases made before there was a list.
const BEFORE_LISTS: &str = include_str!("before_lists.txt");

/// What this release makes, as the comments in its files name it: each function and view has one.
pub(super) fn made() -> Objects {
    let comments = sources().flat_map(|(_, source)| source.lines()).filter_map(|line| {
        let object = line.strip_prefix("comment on ")?;
        let end = if object.starts_with("function ") { object.find(')')? + 1 } else { object.find(" is")? };
        (object.starts_with("function ") || object.starts_with("view ")).then(|| normal(&object[..end]))
    });
    comments.chain(["function installed_functions()".into(), "function installed_objects()".into()]).collect()
}

/// The server's own spelling of the types that the files write shorter.
fn normal(object: &str) -> String {
    object.trim().replace("timestamptz", "timestamp with time zone")
}

/// What a former release made here.
pub(super) async fn made_before(client: &impl GenericClient, schema: &SchemaName) -> Result<Objects> {
    if is_there(client, schema, "installed_objects").await? {
        let sql = format!("select {schema}.installed_objects()");
        return Ok(client.query_one(&sql, &[]).await?.try_get::<_, Vec<String>>(0)?.into_iter().collect());
    }
    // Without this one nothing was ever installed: whatever has a name of ours is somebody else's.
    if is_there(client, schema, "installed_functions").await? {
        return Ok(BEFORE_LISTS.lines().map(normal).collect());
    }
    Ok(Objects::new())
}

/// Whether there is a function of this name without arguments.
pub(super) async fn is_there(client: &impl GenericClient, schema: &SchemaName, function: &str) -> Result<bool> {
    let sql = "select exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                              where n.nspname = $1 and p.proname = $2 and p.pronargs = 0)";
    Ok(client.query_one(sql, &[&schema.as_str(), &function]).await?.try_get(0)?)
}

/// All functions and views that are in the schema, whoever made them. Types of the schema are written as the files write them, without
/// its name.
pub(super) async fn present(client: &impl GenericClient, schema: &SchemaName) -> Result<Objects> {
    let sql = "
        select 'function ' || p.proname || '(' || pg_catalog.replace(pg_catalog.oidvectortypes(p.proargtypes), $2, '') || ')'
        from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = $1
        union all
        select 'view ' || c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relkind = 'v'";
    let rows = client.query(sql, &[&schema.as_str(), &format!("{schema}.")]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Fails when the installation would replace what is not ours.
pub(super) fn refuse_strangers(schema: &SchemaName, present: &Objects, before: &Objects) -> Result<()> {
    let made = made();
    let strangers: Vec<&str> =
        made.intersection(present).filter(|o| !before.contains(*o)).map(String::as_str).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "schema {schema} has {} that Longhaul has not made and would have to replace; rename it, or install into another schema",
        listed(&strangers)
    )))
}

/// What functions returned that return something else now. The server replaces no function whose result differs: these are dropped
/// first, where they still return this.
const FORMER_RESULTS: [(&str, &str); 7] = [
    ("function begin_fan_out(run, step, flow_step, jsonb)", "boolean"),
    ("function begin_wait(lease, run, jsonb)", "void"),
    ("function enter_step(run, step, flow_step)", "boolean"),
    ("function let_in(bigint[], jsonb, bigint, integer)", "queued[]"),
    ("function match_topic(text, text, text)", "integer"),
    (
        "function retention_plan(text)",
        "TABLE(policy text, runs bigint, oldest timestamp with time zone, newest timestamp with time zone)",
    ),
    (
        "function retention_stats(text)",
        "TABLE(kind text, total bigint, last_24h bigint, last_7d bigint, last_30d bigint, older bigint, oldest timestamp with time zone, newest timestamp with time zone)",
    ),
];

/// Functions of a former release that stand in the way of this one's, and so are dropped before these are installed: with another
/// result, or with other arguments under a name that stays, so that a call could mean both.
pub(super) async fn in_the_way(
    client: &impl GenericClient,
    schema: &SchemaName,
    present: &Objects,
    before: &Objects,
) -> Result<Objects> {
    let made = made();
    let name = |object: &str| object.split('(').next().unwrap_or_default().to_owned();
    let kept: BTreeSet<String> = made.iter().map(|object| name(object)).collect();
    let mut found: Objects = present
        .intersection(before)
        .filter(|object| object.starts_with("function ") && !made.contains(*object) && kept.contains(&name(object)))
        .cloned()
        .collect();
    let sql = "
        select 'function ' || p.proname || '(' || pg_catalog.replace(pg_catalog.oidvectortypes(p.proargtypes), $2, '') || ')',
               pg_catalog.replace(pg_catalog.pg_get_function_result(p.oid), $2, '')
        from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = $1 and p.prokind = 'f'";
    for row in client.query(sql, &[&schema.as_str(), &format!("{schema}.")]).await? {
        let (function, result): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let returned =
            FORMER_RESULTS.iter().any(|(name, former)| *name == function && result.as_deref() == Some(*former));
        if returned && before.contains(&function) {
            found.insert(function);
        }
    }
    Ok(found)
}

/// Statements that drop what a former release made and this one does not. Each kind in one statement: they may use each other.
pub(super) fn drops(schema: &SchemaName, present: &Objects, before: &Objects) -> String {
    let made = made();
    let stale: Vec<&String> = present.intersection(before).filter(|object| !made.contains(*object)).collect();
    statements(schema, &stale)
}

/// Statements that drop these, unless a migration has done so with the type or table that they were about.
pub(super) fn statements(schema: &SchemaName, stale: &[&String]) -> String {
    let drop = |kind: &str| {
        let names: Vec<String> =
            stale.iter().filter_map(|o| o.strip_prefix(kind)).map(|name| format!("{schema}.{}", name.trim())).collect();
        if names.is_empty() { String::new() } else { format!("drop {kind}if exists {};\n", names.join(", ")) }
    };
    drop("view ") + &drop("function ")
}

/// The statement that writes down what is ours from now on.
pub(super) fn list() -> String {
    let objects: Vec<String> = made().iter().map(|object| format!("'{object}'")).collect();
    format!(
        "create or replace function installed_objects() returns text[] language sql immutable as $$select array[\n  {}]$$;
comment on function installed_objects() is 'The functions and views that Longhaul has installed here: what an upgrade may replace and drop.';\n",
        objects.join(",\n  ")
    )
}

/// Fails when the schema holds things and no installation of Longhaul. An empty one may have been made by an administrator.
pub(super) async fn refuse_used_schema(client: &impl GenericClient, schema: &SchemaName, history: &str) -> Result<()> {
    let sql = "
        select k.kind || ' ' || c.relname from pg_catalog.pg_class c
        join (values ('r', 'table'), ('p', 'table'), ('v', 'view'), ('m', 'view'), ('S', 'sequence'), ('f', 'table')) k (relkind, kind)
          on k.relkind = c.relkind::text
        where c.relnamespace = pg_catalog.to_regnamespace($1) and c.relname <> $2
        union all
        select 'function ' || p.proname from pg_catalog.pg_proc p where p.pronamespace = pg_catalog.to_regnamespace($1)
        union all
        select 'type ' || t.typname from pg_catalog.pg_type t
        where t.typnamespace = pg_catalog.to_regnamespace($1) and t.typtype in ('e', 'd', 'r')
        order by 1";
    let rows = client.query(sql, &[&schema.as_str(), &history]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let things = rows.iter().map(|row| row.try_get::<_, &str>(0)).collect::<Result<Vec<_>, _>>()?;
    Err(Error::Refused(format!(
        "schema {schema} holds other things ({}) and no Longhaul; name a schema for it alone, or allow it to share this one (--share-schema)",
        listed(&things)
    )))
}

/// The first few of a list, and how many more there are.
fn listed(things: &[&str]) -> String {
    let first = things[..things.len().min(3)].join(", ");
    match things.len() {
        0..=3 => first,
        more => format!("{first} and {} more", more - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_name_everything_that_the_files_make() {
        let starts =
            |start: &str| sources().flat_map(|(_, s)| s.lines()).filter(|line| line.starts_with(start)).count();
        let made = made();
        let functions = made.iter().filter(|object| object.starts_with("function ")).count();
        assert_eq!(functions, starts("create or replace function ") + 2);
        assert_eq!(made.len() - functions, starts("create or replace view "));
        assert!(made.contains("view runs"));
        assert!(made.contains("function claim(bigint, text[], integer[], bigint)"), "{made:#?}");
    }

    #[test]
    fn only_what_is_known_is_dropped() {
        let objects = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Objects>();
        let schema = "jobs".parse().unwrap();
        let before =
            objects(&["function old(integer)", "function older()", "view former", "view runs", "function gone()"]);
        let present = objects(&[
            "function old(integer)",
            "function older()",
            "view former",
            "view runs",
            "function mine()",
            "view his",
        ]);
        assert_eq!(
            drops(&schema, &present, &before),
            "drop view if exists jobs.former;\ndrop function if exists jobs.old(integer), jobs.older();\n"
        );
        assert_eq!(drops(&schema, &present, &Objects::new()), "");
        refuse_strangers(&schema, &present, &before).unwrap();
        let text = refuse_strangers(&schema, &present, &Objects::new()).unwrap_err().to_string();
        assert!(text.contains("view runs"), "{text}");
    }
}
