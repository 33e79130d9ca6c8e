//! Named, expiring, fenced mutual exclusion over all processes.
//!
//! A lock is a row; an acquisition is one call. It is held for a time by the database's clock (5 minutes unless said
//! otherwise) and can be renewed; it is given back when its guard is dropped, on errors and panics too, and expires when its
//! holder's process is killed. Each acquisition has a token that only grows: give it to the store that the lock protects, which
//! must refuse lower ones (Kleppmann, "How to do distributed locking", 2016).

use std::{convert::Infallible, time::Duration};

use crate::{Database, Result, calls::LockAnswer};

/// How long a lock is held unless said otherwise.
pub const DEFAULT_HOLD: Duration = Duration::from_secs(300);

/// What became of an attempt to take a lock.
#[derive(Debug)]
pub enum Locked {
    /// It is ours until the guard is dropped or its time is over.
    Acquired(LockGuard),
    /// Somebody else has it.
    AlreadyRunning(LockAnswer),
}

impl Locked {
    /// The guard, if the lock is ours.
    pub fn acquired(self) -> Option<LockGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::AlreadyRunning(_) => None,
        }
    }
}

/// The usual name of a lock for a phase of a run.
pub fn phase_name(run: uuid::Uuid, phase: &str) -> String {
    format!("{run}/{phase}")
}

/// A lock that is held. Dropping it gives it back, in the background; [`LockGuard::release`] waits for that.
#[derive(Debug)]
pub struct LockGuard {
    database: Database,
    name: String,
    token: i64,
    released: bool,
}

impl LockGuard {
    /// The fencing token.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Holds it for so long from now on. False when it is ours no longer.
    pub async fn renew(&self, hold: Duration) -> Result<bool> {
        let (tenant, name, token) = (self.database.tenant(), self.name.as_str(), self.token);
        self.database.retrying(|calls| async move { calls.renew_lock(tenant, name, token, hold).await }).await
    }

    /// Renews it whenever half of its time is over. Says so once when it is ours no longer.
    async fn keep(&self, hold: Duration) -> Infallible {
        loop {
            tokio::time::sleep(hold / 2).await;
            match self.renew(hold).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(name = self.name, token = self.token, "a lock was lost while its work goes on");
                    return std::future::pending().await;
                }
                Err(error) => tracing::warn!(name = self.name, %error, "a lock could not be renewed"),
            }
        }
    }

    /// Gives it back. False when it was ours no longer.
    pub async fn release(mut self) -> Result<bool> {
        self.released = true;
        let (tenant, name, token) = (self.database.tenant(), self.name.as_str(), self.token);
        self.database.retrying(|calls| async move { calls.release_lock(tenant, name, token).await }).await
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // Without a runtime there is nobody to do it: the lock expires.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (database, name, token) = (self.database.clone(), std::mem::take(&mut self.name), self.token);
            runtime.spawn(async move {
                let tenant = database.tenant();
                let name = name.as_str();
                let release = database.retrying(|calls| async move { calls.release_lock(tenant, name, token).await });
                if let Err(error) = release.await {
                    tracing::warn!(name, %error, "a lock was not given back; it will expire");
                }
            });
        }
    }
}

impl Database {
    /// Takes a lock for so long, or says who has it. `holder` is for people: a host, a process, a run.
    ///
    /// Not tried again when the database cannot be reached: after a lost answer the lock may be held, and expires.
    pub async fn try_lock(&self, name: &str, holder: &str, hold: Duration) -> Result<Locked> {
        let answer = self.calls().await?.acquire_lock(self.tenant(), name, holder, hold).await?;
        Ok(if answer.acquired {
            Locked::Acquired(LockGuard {
                database: self.clone(),
                name: name.into(),
                token: answer.token,
                released: false,
            })
        } else {
            Locked::AlreadyRunning(answer)
        })
    }

    /// Runs something under a lock, which is given back whatever comes of it: `Err` with who has it when somebody has.
    ///
    /// The lock is renewed whenever half of its time is over, so that `hold` need not be as long as the work. Work that was done is
    /// never lost: when the lock cannot be given back, or was lost meanwhile, that is logged, and the result is returned all the same.
    pub async fn run_locked<T, Fut: Future<Output = T>>(
        &self,
        name: &str,
        holder: &str,
        hold: Duration,
        work: impl FnOnce(i64) -> Fut,
    ) -> Result<std::result::Result<T, LockAnswer>> {
        match self.try_lock(name, holder, hold).await? {
            Locked::AlreadyRunning(answer) => Ok(Err(answer)),
            Locked::Acquired(guard) => {
                let outcome = tokio::select! {
                    outcome = work(guard.token()) => outcome,
                    never = guard.keep(hold) => match never {},
                };
                if let Err(error) = guard.release().await {
                    tracing::warn!(name, %error, "a lock was not given back after its work; it will expire");
                }
                Ok(Ok(outcome))
            }
        }
    }
}
