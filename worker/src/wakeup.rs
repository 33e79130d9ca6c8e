//! Notifications that there is work. They only save waiting: a worker polls as well.

use std::sync::Arc;

use longhaul_schema::{Database, backoff::Backoff};
use tokio::sync::{Notify, mpsc};

use crate::event::Event;

/// Listens on the worker's channel, reconnecting for as long as the engine lives.
pub(crate) async fn run(database: Database, channel: String, heartbeat: Arc<Notify>, events: mpsc::Sender<Event>) {
    let mut backoff = Backoff::default();
    loop {
        match database.listen(&channel).await {
            Ok(mut listener) => {
                backoff = Backoff::default();
                // What was sent before we listened is lost: work, and leases that were taken away. And the server may have
                // forgotten that we want to be told.
                heartbeat.notify_one();
                if events.send(Event::Reconnected).await.is_err() {
                    return;
                }
                while let Some(message) = listener.next().await {
                    if message == "heartbeat" {
                        heartbeat.notify_one();
                    } else if events.send(Event::Wake).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no notifications for now"),
        }
        if events.is_closed() {
            return;
        }
        backoff.wait().await;
    }
}
