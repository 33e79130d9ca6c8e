//! Whatever times and numbers stand in the database, no command that reads them stops.

use longhaul_scheduler::{Client, Schedule};
use longhaul_schema::{
    Database, Flow, Step,
    calls::{NewSignal, RetentionPolicy},
};

use crate::server::Installation;

/// Writes a value into every column of a type, in every table, wherever a constraint does not refuse it. Keys are left alone, and
/// what the chores go by.
const INTO_EVERY_COLUMN: &str = "
do $do$
declare
  v_column record;
  v_written integer := 0;
begin
  for v_column in
    select c.oid::regclass as name, a.attname from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = '$SCHEMA'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and a.atttypid::regtype::text = '$TYPE' and c.relname not in ('setting', 'schema_history', 'chore')
      and not exists (select from pg_index i where i.indrelid = c.oid and a.attnum = any (i.indkey) and i.indisunique)
      and a.attname::text !~ '_id$|^id$|^seq$|^def$|^open_steps$'
  loop
    begin
      execute format('update %s set %I = %L', v_column.name, v_column.attname, '$VALUE');
      v_written := v_written + 1;
    exception when others then
      null;
    end;
  end loop;
  if v_written = 0 then
    raise exception 'the value was written nowhere';
  end if;
end $do$";

/// An installation in which every list has something to show; returns a run of it.
async fn fill(client: &Client) -> uuid::Uuid {
    client
        .deploy(
            &Flow::new("one", 1)
                .step(Step::new("a", "h"))
                .step(Step::sleep("b", std::time::Duration::from_secs(60)).after("a")),
        )
        .await
        .unwrap();
    client.schedule(&Schedule::new("nightly", "0 3 * * *", "one")).await.unwrap();
    client
        .try_lock("a", "me", std::time::Duration::from_secs(60))
        .await
        .unwrap()
        .acquired()
        .map(std::mem::forget)
        .unwrap();
    let calls = client.database().calls().await.unwrap();
    let age = std::time::Duration::from_secs(86_400);
    let policy = RetentionPolicy { name: "p".into(), state: None, flow: None, age, keep_last: 0, archive: false };
    calls.put_retention_policy("default", &policy).await.unwrap();
    calls.send_signal("default", "k", &NewSignal::new("t", longhaul_schema::Payload::null())).await.unwrap();
    let run = client.start("one", &1).await.unwrap();
    client.start("one", &2).await.unwrap();
    run.id()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_in_any_column_stops_a_command_that_reads_it() {
    let installation = Installation::new().await;
    let client = installation.client().await;
    let run = fill(&client).await.to_string();
    let database = Database::new(&installation.config).unwrap();
    let commands: &[&[&str]] = &[
        &["list"],
        &["list", "--json"],
        &["show", &run],
        &["show", &run, "--json"],
        &["show", &run, "--timeline"],
        &["flow", "list"],
        &["flow", "show", "one"],
        &["flow", "live", "one"],
        &["queue", "list"],
        &["queue", "list", "--json"],
        &["questions"],
        &["dead", "list"],
        &["schedule", "list"],
        &["schedule", "list", "--json"],
        &["retention", "list"],
        &["retention", "plan"],
        &["retention", "stats"],
        &["lock", "list", "--all"],
        &["lock", "list", "--all", "--json"],
        &["doctor"],
    ];
    for (kind, value) in [
        ("timestamp with time zone", "infinity"),
        ("timestamp with time zone", "-infinity"),
        ("timestamp with time zone", "294276-12-31 23:59:59+00"),
        ("bigint", "9223372036854775807"),
        ("integer", "-2147483648"),
        ("double precision", "NaN"),
        ("interval", "36500 days"),
    ] {
        let sql = INTO_EVERY_COLUMN
            .replace("$SCHEMA", installation.config.schema.as_str())
            .replace("$TYPE", kind)
            .replace("$VALUE", value);
        database.connection().await.unwrap().batch_execute(&sql).await.unwrap();
        for command in commands {
            let output = installation.longhaul(command).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let code = output.status.code();
            assert!(
                code.is_some_and(|code| code < 100) && !said.contains("panicked"),
                "{command:?} with {value}: {code:?} {said}"
            );
            // Only where numbers are added up may the database itself refuse them.
            let refused = code == Some(2) && said.contains("the database refuses a value");
            let doctor = command[0] == "doctor" && code == Some(1);
            assert!(code == Some(0) || refused || doctor, "{command:?} with {value}: {code:?} {said}");
        }
    }
}
