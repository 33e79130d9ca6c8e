//! Waits for the answers of a connection, and what becomes of it when one stays away.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

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
    /// Waits for each answer as long as this.
    pub(super) fn within(timeout: Duration) -> Self {
        Self { fate: AtomicU8::new(Fate::Back as u8), timeout }
    }

    /// The longest wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Changes the longest wait.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// What was decided.
    pub(super) fn fate(&self) -> Fate {
        let decided = self.fate.load(Ordering::Relaxed);
        let all = [Fate::Back, Fate::Look, Fate::Close, Fate::Cancel];
        all.into_iter().find(|fate| *fate as u8 == decided).unwrap_or(Fate::Cancel)
    }

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
