//! Named locks.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Calls, Executor, readable};
use crate::{Error, Result, duration::millis};

/// The answer to an acquisition.
#[derive(Clone, Debug)]
pub struct LockAnswer {
    /// Whether the caller holds it now.
    pub acquired: bool,
    /// The fencing token of this hold, or of the other one.
    pub token: i64,
    /// Who holds it.
    pub holder: String,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// A lock, as operators see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockInfo {
    /// Its name.
    pub name: String,
    /// Who holds it, or held it last until it expired.
    pub holder: Option<String>,
    /// Whether it is held.
    pub held: bool,
    /// The token of the last hold.
    pub token: i64,
    /// When that began.
    pub acquired_at: Option<DateTime<Utc>>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was acquired.
    pub acquired: i64,
    /// How often it was found taken.
    pub blocked: i64,
    /// How often it expired in its holder's hands.
    pub expired: i64,
}

impl<E: Executor> Calls<E> {
    /// Takes a lock, or says who holds it. After a lost answer it may be held by the caller until it expires.
    pub async fn acquire_lock(&self, tenant: &str, name: &str, holder: &str, hold: Duration) -> Result<LockAnswer> {
        let row = self
            .row("select * from longhaul.acquire_lock($1, $2, $3, $4)", &[&tenant, &name, &holder, &millis(hold)])
            .await?;
        Ok(LockAnswer {
            acquired: row.try_get("acquired")?,
            token: row.try_get("token")?,
            holder: row.try_get("holder")?,
            expires_at: row.try_get("expires_at")?,
        })
    }

    /// Holds a lock for longer. False when it is not held under this token any more.
    pub async fn renew_lock(&self, tenant: &str, name: &str, token: i64, hold: Duration) -> Result<bool> {
        let hold = millis(hold);
        self.row("select longhaul.renew_lock($1, $2, $3, $4)", &[&tenant, &name, &token, &hold]).await?.try_get(0)
    }

    /// Gives a lock back. False when it is not held under this token any more.
    pub async fn release_lock(&self, tenant: &str, name: &str, token: i64) -> Result<bool> {
        self.row("select longhaul.release_lock($1, $2, $3)", &[&tenant, &name, &token]).await?.try_get(0)
    }

    /// Takes a lock from its holder, which is recorded. False when nobody held it. With a token it ends only the hold with that token,
    /// and may be repeated: without one, a second call takes the lock from whoever got it in between.
    pub async fn force_release_lock(
        &self,
        tenant: &str,
        name: &str,
        by: Option<&str>,
        token: Option<i64>,
    ) -> Result<bool> {
        let sql = "select longhaul.force_release_lock($1, $2, $3, $4)";
        self.row(sql, &[&tenant, &name, &by, &token]).await?.try_get(0)
    }

    /// The token of the present hold of a lock; `None` when nobody holds it.
    pub async fn lock_token(&self, tenant: &str, name: &str) -> Result<Option<i64>> {
        let sql = "select case when held then token end from longhaul.locks where tenant = $1 and name = $2";
        let rows = self.rows(sql, &[&tenant, &name]).await?;
        match rows.first() {
            Some(row) => row.try_get(0),
            None => Err(Error::NotFound(format!("there is no lock {name} for tenant {tenant}"))),
        }
    }

    /// The locks of a tenant, by name; only those that are held if asked.
    pub async fn list_locks(&self, tenant: &str, held_only: bool) -> Result<Vec<LockInfo>> {
        let rows = self
            .rows(
                "select name, holder, held, token, acquired_at, expires_at, acquired, blocked, expired from longhaul.locks
                 where tenant = $1 and (held or not $2) order by name",
                &[&tenant, &held_only],
            )
            .await?;
        readable(&rows, |row| {
            Ok(LockInfo {
                name: row.try_get("name")?,
                holder: row.try_get("holder")?,
                held: row.try_get("held")?,
                token: row.try_get("token")?,
                acquired_at: row.try_get("acquired_at")?,
                expires_at: row.try_get("expires_at")?,
                acquired: row.try_get("acquired")?,
                blocked: row.try_get("blocked")?,
                expired: row.try_get("expired")?,
            })
        })
    }
}
