//! Requests of the HTTP API that are carried out once.

use uuid::Uuid;

use super::{Calls, Executor};
use crate::Result;

/// What is known of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// The id under which it is carried out.
    pub request: Uuid,
    /// Whether it was the same request.
    pub same: bool,
    /// Whether the caller is to carry it out.
    pub mine: bool,
    /// The answer, if there is one: status and body.
    pub answer: Option<(i32, String)>,
}

impl<E: Executor> Calls<E> {
    /// Claims a request, by its key and the digest of all that it says. `request` is its id, if it is new.
    pub async fn claim_request(&self, tenant: &str, key: &str, digest: &[u8], request: Uuid) -> Result<ClaimedRequest> {
        let sql = "select request, same, mine, status, answer from longhaul.claim_request($1, $2, $3, $4)";
        let row = self.row(sql, &[&tenant, &key, &digest, &request]).await?;
        let status: Option<i32> = row.try_get("status")?;
        Ok(ClaimedRequest {
            request: row.try_get("request")?,
            same: row.try_get("same")?,
            mine: row.try_get("mine")?,
            answer: status.zip(row.try_get("answer")?),
        })
    }

    /// Keeps the answer to a request for whoever asks again.
    pub async fn answer_request(
        &self,
        tenant: &str,
        key: &str,
        request: Uuid,
        status: i32,
        answer: &str,
    ) -> Result<()> {
        self.run("select longhaul.answer_request($1, $2, $3, $4, $5)", &[&tenant, &key, &request, &status, &answer])
            .await
    }

    /// Lets the next one who asks carry a request out at once.
    pub async fn give_up_request(&self, tenant: &str, key: &str, request: Uuid) -> Result<()> {
        self.run("select longhaul.give_up_request($1, $2, $3)", &[&tenant, &key, &request]).await
    }
}
