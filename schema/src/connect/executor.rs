//! Whatever statements can be run on.

use tokio_postgres::types::ToSql;

use super::{Connection, Transaction};
use crate::Result;

/// Something that statements can be run on: a connection of the pool, a client of the caller's own, or a transaction.
pub trait Executor: Send + Sync {
    /// Runs a statement and returns its rows.
    fn rows<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<tokio_postgres::Row>>> + Send + 'a;
}

impl Executor for Connection {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        self.call(sql, parameters).await
    }
}

impl Executor for Transaction<'_> {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        self.call(sql, parameters).await
    }
}

impl Executor for deadpool_postgres::Transaction<'_> {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        let statement = self.prepare_cached(sql).await?;
        Ok(self.query(&statement, parameters).await?)
    }
}

impl Executor for tokio_postgres::Client {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        Ok(self.query(sql, parameters).await?)
    }
}

impl Executor for tokio_postgres::Transaction<'_> {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        Ok(self.query(sql, parameters).await?)
    }
}

impl<E: Executor> Executor for &E {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        (**self).rows(sql, parameters).await
    }
}
