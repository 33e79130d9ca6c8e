//! A connection of the pool. It goes back only when everything that was asked on it has been answered.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object};

use super::{
    answers::{Answers, Fate},
    cancelling, opening,
    tls::Tls,
    transaction::Transaction,
};
use crate::Result;

/// A connection of the pool. It goes back when dropped, unless an answer is still due: because it did not come in time, or because
/// the future that waited for it was dropped. Then it is closed.
///
/// It can be used as a client of `tokio_postgres`, for statements of the caller's own; these are not bounded by
/// [`Config::call_timeout`](crate::Config::call_timeout), but for those of a [`Connection::transaction`] and for waits for locks.
#[derive(Debug)]
pub struct Connection {
    /// `None` only while it is being dropped.
    object: Option<Object>,
    answers: Answers,
    /// The call timeout of the pool.
    opened_with: Duration,
    tls: Tls,
}

impl Connection {
    pub(super) fn new(object: Object, call_timeout: Duration, tls: Tls) -> Self {
        Self { object: Some(object), answers: Answers::within(call_timeout), opened_with: call_timeout, tls }
    }

    /// Longest wait for the answer of a call.
    pub fn call_timeout(&self) -> Duration {
        self.answers.timeout()
    }

    /// Waits so long for answers from now on.
    pub fn set_call_timeout(&mut self, timeout: Duration) {
        self.answers.set_timeout(timeout);
    }

    /// Begins a transaction. Every answer in it must come within [`Connection::call_timeout`]; dropped, it is rolled back.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>> {
        let Self { object, answers, .. } = self;
        let object = object.as_mut().expect("there until it is dropped");
        let inner = answers.of(object.transaction(), Fate::Cancel).await?;
        Ok(Transaction::new(inner, answers))
    }

    /// Runs a statement of the calls. What it does goes on when nobody waits for it any more: a transition that has begun is best
    /// finished, and whoever asks again finds out what became of it.
    pub(crate) async fn call(
        &self,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>> {
        let client = self.client();
        let call = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        self.answers.of(call, Fate::Close).await
    }

    fn client(&self) -> &ClientWrapper {
        self.object.as_ref().expect("there until it is dropped")
    }

    /// Takes the connection out of the pool for good, for work that may wait for locks as long as it likes.
    pub(crate) async fn detach(mut self) -> Result<ClientWrapper> {
        let client = Object::take(self.object.take().expect("there until it is dropped"));
        opening::wait_for_locks(&client, self.opened_with).await?;
        Ok(client)
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.answers.decide(Fate::Look);
        self.client()
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        self.answers.decide(Fate::Look);
        self.object.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let fate = self.answers.fate();
        if fate == Fate::Back {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if fate == Fate::Look => {
                runtime.spawn(cancelling::look(object, self.tls.clone()));
            }
            Ok(runtime) if fate == Fate::Cancel => {
                runtime.spawn(cancelling::cancel(Object::take(object), self.tls.clone()));
            }
            _ => drop(Object::take(object)),
        }
    }
}
