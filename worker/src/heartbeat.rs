//! Renews the leases of a worker, all by one update, and learns which of them were lost.
//!
//! It runs on a thread of its own, over a connection of its own: a handler that blocks its thread must not cost the worker its
//! leases.

use std::{sync::Arc, time::Duration};

use longhaul_schema::{
    Config, Database, Error,
    calls::{AttemptKey, Renewal},
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    event::Event,
    lease_clock::{LeaseClock, Moment},
};

/// The engine is asked for this long which steps the worker owns. It does not answer while handlers block its thread; the leases
/// are renewed all the same.
const ASK_FOR: Duration = Duration::from_millis(200);

/// What a heartbeat needs.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) config: Config,
    pub(crate) worker: i64,
    pub(crate) interval: Duration,
    pub(crate) lease: Duration,
    pub(crate) clock: LeaseClock,
    pub(crate) at_once: Arc<Notify>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Heartbeat {
    /// Beats until the engine is gone or the worker is lost.
    pub(crate) async fn run(self) -> Result<(), Error> {
        let database = Database::new(&self.patient_config())?;
        // Over a slow network a connection takes longer than a beat. When there is none yet, the first beat says so.
        let _ = database.connection().await;
        let mut wait = self.interval;
        let mut overdue = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.at_once.notified() => {}
                () = self.events.closed() => return Ok(()),
            }
            let owned = self.owned().await;
            // Counted from before the call: the database may have renewed at any time during it.
            let sent = Moment::now();
            match beat(&database, self.worker, &owned).await {
                Ok(Renewal { draining, lost }) => {
                    self.clock.renewed(sent);
                    (wait, overdue) = (self.interval, false);
                    if draining {
                        self.tell(Event::Draining).await;
                    }
                    if !lost.is_empty() {
                        self.tell(Event::LeasesLost(lost)).await;
                    }
                }
                Err(Error::WorkerLost(reason)) => {
                    tracing::warn!(worker = self.worker, reason, "this worker was given up; it starts anew");
                    // There is nothing more to beat for, however long it takes to say so.
                    let _ = self.events.send(Event::WorkerLost).await;
                    self.events.closed().await;
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(worker = self.worker, %error, "heartbeat failed");
                    wait = (self.interval / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    // By now others may have the steps. The database decides that, but until it can be asked the safe
                    // assumption is that they do.
                    overdue = !self.clock.holds() && (overdue || self.tell(Event::LeaseOverdue).await);
                }
            }
        }
    }

    /// Tells the engine something, unless it does not listen: handlers may block its thread. What matters is told again by the
    /// next beat.
    async fn tell(&self, event: Event) -> bool {
        matches!(tokio::time::timeout(ASK_FOR, self.events.send(event)).await, Ok(Ok(())))
    }

    /// An answer that does not come within a third of a lease leaves time for another try.
    fn patient_config(&self) -> Config {
        let mut config = self.config.clone().pool_size(1);
        let patience = (self.lease / 3).max(Duration::from_millis(100));
        config.call_timeout = config.call_timeout.min(patience);
        config.pool_wait = config.pool_wait.min(patience.max(Duration::from_secs(1)));
        config
    }

    /// The attempts that the engine owns; none when it does not answer, which only delays the news of those that were lost.
    async fn owned(&self) -> Vec<AttemptKey> {
        let (reply, owned) = oneshot::channel();
        let asked = async {
            self.events.send(Event::ListOwned(reply)).await.ok()?;
            owned.await.ok()
        };
        tokio::time::timeout(ASK_FOR, asked).await.ok().flatten().unwrap_or_default()
    }
}

async fn beat(database: &Database, worker: i64, owned: &[AttemptKey]) -> Result<Renewal, Error> {
    database.calls().await?.renew_leases(worker, owned.iter().copied()).await
}
