//! Waiting for conditions, never for durations.

use std::time::Duration;

/// Far beyond anything that happens on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
pub async fn eventually<Fut: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> Fut) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("it never happened: {what}"));
}

/// The result of something that must not hang.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("it never ended: {what}"))
}
