//! A transaction on a connection of the pool.

use std::ops::{Deref, DerefMut};

use tokio_postgres::types::ToSql;

use super::answers::{Answers, Fate};
use crate::Result;

/// A transaction in which every answer must come within the [call timeout](super::Connection::call_timeout) of its connection: the
/// calls made on it, its commit and its rollback. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    answers: &'a Answers,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(inner: deadpool_postgres::Transaction<'a>, answers: &'a Answers) -> Self {
        Self { inner, answers }
    }

    /// Commits. When no answer comes, it is unknown whether it did.
    pub async fn commit(self) -> Result<()> {
        self.answers.of(self.inner.commit(), Fate::Close).await
    }

    /// Rolls back.
    pub async fn rollback(self) -> Result<()> {
        self.answers.of(self.inner.rollback(), Fate::Cancel).await
    }

    /// Runs a statement of the calls. When nobody waits for it any more it is cancelled: it could not be committed.
    pub(crate) async fn call(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>> {
        let call = async {
            let statement = self.inner.prepare_cached(sql).await?;
            self.inner.query(&statement, parameters).await
        };
        self.answers.of(call, Fate::Cancel).await
    }
}

impl<'a> Deref for Transaction<'a> {
    type Target = deadpool_postgres::Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        self.answers.decide(Fate::Look);
        &self.inner
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.answers.decide(Fate::Look);
        &mut self.inner
    }
}
