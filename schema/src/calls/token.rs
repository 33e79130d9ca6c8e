//! Tokens of the HTTP API.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::{Calls, Executor, Row, readable};
use crate::{Error, Result};

/// What somebody may do. Each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look.
    Read,
    /// Start and steer runs, queues and schedules.
    Operate,
    /// Delete, and change limits and policies.
    Admin,
}

impl Scope {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        [Self::Read, Self::Operate, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or_else(|| Error::Invalid(format!("{word:?}: a scope is read, operate or admin")))
    }
}

/// A token to be stored.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// Its first part: 16 hexadecimal digits.
    pub id: &'a str,
    /// Whose it is.
    pub name: &'a str,
    /// SHA-256 of its secret part.
    pub hash: &'a [u8],
    /// What may be done with it.
    pub scope: Scope,
    /// For which tenants; for all when `None`.
    pub tenants: Option<&'a [String]>,
    /// From when on it counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who makes it.
    pub by: Option<&'a str>,
}

/// A token, without its secret.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    /// Its first part.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// SHA-256 of its secret part.
    pub hash: Vec<u8>,
    /// What may be done with it.
    pub scope: Scope,
    /// For which tenants; for all when `None`.
    pub tenants: Option<Vec<String>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// By whom.
    pub created_by: String,
    /// From when on it counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when it counts no more.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, name, hash, scope, tenants, created_at, created_by, expires_at, revoked_at, last_used_at";

impl<E: Executor> Calls<E> {
    /// Stores a token.
    pub async fn make_token(&self, token: &NewToken<'_>) -> Result<()> {
        let scope = token.scope.as_str();
        self.run(
            "select longhaul.make_token($1, $2, $3, $4, $5, $6, $7)",
            &[&token.id, &token.name, &token.hash, &scope, &token.tenants, &token.expires_at, &token.by],
        )
        .await
    }

    /// Lets a token count no more. False when it was revoked already.
    pub async fn revoke_token(&self, name: &str) -> Result<bool> {
        self.row("select longhaul.revoke_token($1)", &[&name]).await?.try_get(0)
    }

    /// All tokens, by name; those that count no more as well.
    pub async fn list_tokens(&self) -> Result<Vec<TokenInfo>> {
        let rows = self.rows(&format!("select {COLUMNS} from longhaul.token order by name"), &[]).await?;
        readable(&rows, token_info)
    }

    /// The token that begins so, if it counts. Its secret is still to be compared.
    pub async fn find_token(&self, id: &str) -> Result<Option<TokenInfo>> {
        let sql = format!("select {COLUMNS} from longhaul.find_token($1) where id is not null");
        self.rows(&sql, &[&id]).await?.first().map(token_info).transpose()
    }

    /// Notes that a token was used.
    pub async fn token_used(&self, id: &str) -> Result<()> {
        self.run("select longhaul.token_used($1)", &[&id]).await
    }

    /// Whether any token was ever made that is not revoked: then nobody comes in without one. An expired one counts here, so that the
    /// end of a token opens no door.
    pub async fn tokens_are_used(&self) -> Result<bool> {
        self.row("select exists (select from longhaul.token where revoked_at is null)", &[]).await?.try_get(0)
    }
}

fn token_info(row: &Row) -> Result<TokenInfo> {
    Ok(TokenInfo {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        hash: row.try_get("hash")?,
        scope: row.try_get::<&str>("scope")?.parse()?,
        tenants: row.try_get("tenants")?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}
