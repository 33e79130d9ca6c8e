//! Named locks.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Calls, Executor};
use crate::Result;

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
            .row(
                "select * from longhaul.acquire_lock($1, $2, $3, $4)",
                &[&tenant, &name, &holder, &(hold.as_millis() as i64)],
            )
            .await?;
        Ok(LockAnswer {
            acquired: row.get("acquired"),
            token: row.get("token"),
            holder: row.get("holder"),
            expires_at: row.get("expires_at"),
        })
    }

    /// Holds a lock for longer. False when it is not held under this token any more.
    pub async fn renew_lock(&self, tenant: &str, name: &str, token: i64, hold: Duration) -> Result<bool> {
        let hold = hold.as_millis() as i64;
        Ok(self.row("select longhaul.renew_lock($1, $2, $3, $4)", &[&tenant, &name, &token, &hold]).await?.get(0))
    }

    /// Gives a lock back. False when it is not held under this token any more.
    pub async fn release_lock(&self, tenant: &str, name: &str, token: i64) -> Result<bool> {
        Ok(self.row("select longhaul.release_lock($1, $2, $3)", &[&tenant, &name, &token]).await?.get(0))
    }

    /// Takes a lock from its holder, which is recorded. False when nobody held it.
    pub async fn force_release_lock(&self, tenant: &str, name: &str, by: Option<&str>) -> Result<bool> {
        Ok(self.row("select longhaul.force_release_lock($1, $2, $3)", &[&tenant, &name, &by]).await?.get(0))
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
        Ok(rows
            .iter()
            .map(|row| LockInfo {
                name: row.get("name"),
                holder: row.get("holder"),
                held: row.get("held"),
                token: row.get("token"),
                acquired_at: row.get("acquired_at"),
                expires_at: row.get("expires_at"),
                acquired: row.get("acquired"),
                blocked: row.get("blocked"),
                expired: row.get("expired"),
            })
            .collect())
    }
}
