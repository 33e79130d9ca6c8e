//! A connection of the pool. It goes back only when everything that was asked on it has been answered.

use std::{
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object};

use super::{cancelling, opening, tls::Tls, transaction::Transaction};
use crate::{
    Error, Result,
    error::{lost_statement, spoils_connection},
};

/// What is to become of a connection when it is given back. Ordered: what was decided stays unless it gets worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Fate {
    /// It goes back to the pool.
    Back,
    /// The caller had it for statements of his own: it goes back once it has been seen to be idle.
    Look,
    /// It is closed: whatever is asked next would wait behind an answer that is still due.
    Close,
    /// It is closed, and what it does is cancelled: nobody can want it any more.
    Cancel,
}

/// Waits for answers, and remembers whether one stayed away.
#[derive(Debug)]
pub(super) struct Answers {
    fate: AtomicU8,
    timeout: Duration,
}

/// After an error that comes of every call there is a pause before it is told: callers that try again do not do so at full speed.
const PAUSE: Duration = Duration::from_millis(250);

impl Answers {
    /// Decides what becomes of the connection, unless worse was decided before.
    pub(super) fn decide(&self, fate: Fate) {
        self.fate.fetch_max(fate as u8, Ordering::Relaxed);
    }

    /// Waits for an answer, as long as is allowed. When it does not come in time, or the caller goes away meanwhile, `unanswered` is
    /// the fate of the connection.
    pub(super) async fn of<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
        unanswered: Fate,
    ) -> Result<T> {
        let mut due = Due { answers: self, unanswered: Some(unanswered) };
        let Ok(answer) = tokio::time::timeout(self.timeout, call).await else {
            return Err(Error::Unavailable(format!("the database gave no answer within {:?}", self.timeout)));
        };
        due.unanswered = None;
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) if spoils_connection(&error) => {
                self.decide(Fate::Close);
                let pooler = error.as_db_error().is_some_and(|db| lost_statement(db.code(), db.message()));
                let error = Error::from(error);
                if pooler {
                    tracing::warn!(%error, "a connection is of no use any more");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// An answer that is due. Dropped before it came, it decides about the connection.
struct Due<'a> {
    answers: &'a Answers,
    unanswered: Option<Fate>,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        if let Some(fate) = self.unanswered {
            self.answers.decide(fate);
        }
    }
}

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
        let answers = Answers { fate: AtomicU8::new(Fate::Back as u8), timeout: call_timeout };
        Self { object: Some(object), answers, opened_with: call_timeout, tls }
    }

    /// Longest wait for the answer of a call.
    pub fn call_timeout(&self) -> Duration {
        self.answers.timeout
    }

    /// Waits so long for answers from now on.
    pub fn set_call_timeout(&mut self, timeout: Duration) {
        self.answers.timeout = timeout;
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
        let fate = self.answers.fate.load(Ordering::Relaxed);
        if fate == Fate::Back as u8 {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if fate == Fate::Look as u8 => {
                runtime.spawn(cancelling::look(object, self.tls.clone()));
            }
            Ok(runtime) if fate == Fate::Cancel as u8 => {
                runtime.spawn(cancelling::cancel(Object::take(object), self.tls.clone()));
            }
            _ => drop(Object::take(object)),
        }
    }
}
