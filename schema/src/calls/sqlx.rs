//! Transactions of sqlx.

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};
use tokio_postgres::error::SqlState;

use super::JsonStatement;
use crate::{Error, Result, error::from_server};

impl JsonStatement for PgConnection {
    async fn json(&mut self, sql: &str, parameter: &str) -> Result<String> {
        // The text is our own, but for the name of the schema, which has been checked.
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).bind(parameter.to_owned());
        query.fetch_one(self).await.map_err(of_sqlx)
    }
}

impl JsonStatement for Transaction<'_, Postgres> {
    async fn json(&mut self, sql: &str, parameter: &str) -> Result<String> {
        (**self).json(sql, parameter).await
    }
}

fn of_sqlx(error: sqlx::Error) -> Error {
    let known = match &error {
        sqlx::Error::Database(db) => {
            let code = db.code().unwrap_or_default();
            from_server(&SqlState::from_code(&code), db.message(), format!("{} [{code}]", db.message()))
        }
        sqlx::Error::Io(error) => Some(Error::unreachable(error)),
        _ => None,
    };
    known.unwrap_or_else(|| Error::Driver(Box::new(error)))
}
