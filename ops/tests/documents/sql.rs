//! SQL blocks, a statement at a time.

use longhaul_docs::{placeholder, statements::statements};
use longhaul_schema::Database;
use tokio_postgres::SimpleQueryMessage;

/// Runs a block; returns what a reader would see: names of columns and values between bars.
pub async fn run(database: &Database, code: &str) -> Result<String, String> {
    let connection = database.connection().await.expect("the server");
    let mut said = String::new();
    for statement in statements(code) {
        let statement = filled_in(database, statement).await;
        let answer = connection.simple_query(&statement).await;
        let rows = answer.map_err(|e| {
            let reason =
                e.as_db_error().map_or_else(|| e.to_string(), |e| format!("{} [{}]", e.message(), e.code().code()));
            format!("{reason}\n{statement}")
        })?;
        for message in rows {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    said.push_str(&columns.iter().map(|c| c.name().to_owned()).collect::<Vec<_>>().join(" | "));
                    said.push('\n');
                }
                SimpleQueryMessage::Row(row) => {
                    let values = (0..row.len()).map(|n| row.get(n).unwrap_or_default().to_owned());
                    said.push_str(&values.collect::<Vec<_>>().join(" | "));
                    said.push('\n');
                }
                _ => {}
            }
        }
    }
    Ok(said)
}

/// `RUN` and `'…'` are the newest run, `WORKER` is the newest worker.
async fn filled_in(database: &Database, mut statement: String) -> String {
    if let Some(run) = newest_run(database).await {
        statement = placeholder::run_in_sql(&statement, &run);
    }
    let newest = "select id::text from longhaul.workers order by started_at desc limit 1";
    match value(database, newest).await {
        Some(worker) => placeholder::word(&statement, "WORKER", &worker),
        None => statement,
    }
}

/// The id of the newest run.
pub async fn newest_run(database: &Database) -> Option<String> {
    value(database, "select id::text from longhaul.runs order by id desc limit 1").await
}

async fn value(database: &Database, query: &str) -> Option<String> {
    let connection = database.connection().await.expect("the server");
    connection.query_opt(query, &[]).await.expect(query).map(|row| row.get(0))
}
