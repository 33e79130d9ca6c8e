//! What becomes of connections on which something may still be going on.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::tls::Tls;

/// An idle connection answers at once. Whichever takes longer is busy with something.
const IDLE_ANSWERS_WITHIN: Duration = Duration::from_millis(250);

/// Longest wait for a request to cancel to be sent.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// True outside of a transaction: within one, time stands still.
const OUTSIDE: &str = "select now() = statement_timestamp()";

/// Gives a connection back to the pool once it is seen to be idle and outside of a transaction; otherwise it is closed, and what it
/// does is cancelled.
pub(super) async fn look(object: Object, tls: Tls) {
    match tokio::time::timeout(IDLE_ANSWERS_WITHIN, object.simple_query(OUTSIDE)).await {
        Ok(Ok(answer)) if answer.iter().any(says_true) => drop(object),
        Ok(_) => drop(Object::take(object)),
        Err(_) => cancel(Object::take(object), tls).await,
    }
}

fn says_true(message: &SimpleQueryMessage) -> bool {
    matches!(message, SimpleQueryMessage::Row(row) if matches!(row.try_get(0), Ok(Some("t"))))
}

/// Closes a connection whose statement nobody waits for, after asking the server to cancel it.
pub(super) async fn cancel(client: ClientWrapper, tls: Tls) {
    let token = client.cancel_token();
    let request = async {
        match tls.0 {
            Some(tls) => token.cancel_query(tls).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    // It is only to spare the server work; without it the statement ends by itself.
    if !matches!(tokio::time::timeout(CANCEL_WITHIN, request).await, Ok(Ok(()))) {
        tracing::debug!("a statement that nobody waits for could not be cancelled");
    }
    drop(client);
}
