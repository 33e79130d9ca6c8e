//! Chores: expired leases, due timers, partitions, and what else recurs. They are rows; whichever scheduler finds one due
//! does it, and `SKIP LOCKED` keeps the others off. No leader is elected, so none can be missing.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use longhaul_schema::{Calls, Config, Database, backoff::Backoff};

use crate::{Error, pace::Pace, schedules, stand_in};

/// Longest sleep between two looks at the chores.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Shortest and longest sleep while a chore is due that another scheduler is at.
const TAKEN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// A chore is allowed to take longer than other calls.
const LONGEST_CHORE: Duration = Duration::from_secs(3600);

/// So many chores one scheduler does at a time, so that a long one does not delay the timers.
const HANDS: usize = 2;

/// Does chores and fires schedules until it is told to stop. Workers do that themselves when nobody else does; in a big fleet two
/// schedulers leave the workers to their steps.
#[derive(Clone, Debug)]
pub struct Scheduler {
    database: Database,
}

impl Scheduler {
    /// A scheduler with a pool of its own.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self::on(Database::new(&config.clone().pool_size(HANDS + 1))?))
    }

    /// A scheduler on a pool that is there already. It needs two connections, and works best with three.
    pub fn on(database: Database) -> Self {
        Self { database }
    }

    /// Does chores and fires schedules until `stop` completes. A chore that is being done is finished or rolled back, never half done.
    ///
    /// While the database cannot be reached it waits for it. Fails only when Longhaul is not installed there, or the
    /// database refuses this user.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let pace = Pace::default();
        tokio::select! {
            ended = self.work(&pace) => ended,
            () = stop => Ok(()),
        }
    }

    /// Does chores and fires schedules until others do them all. Two that stand in for a missing scheduler find out which of them
    /// goes on.
    ///
    /// Fails as [`Scheduler::run_until`].
    pub async fn while_needed(self) -> Result<(), Error> {
        let pace = Pace::default();
        tokio::select! {
            ended = self.work(&pace) => ended,
            () = stand_in::until_others_do_it(&self.database, &pace) => Ok(()),
        }
    }

    async fn work(&self, pace: &Pace) -> Result<(), Error> {
        let hands = futures::future::try_join_all((0..HANDS).map(|_| work(&self.database, pace)));
        tokio::select! {
            ended = hands => ended.map(|_| ()),
            ended = schedules::run(&self.database) => ended,
        }
    }
}

async fn work(database: &Database, pace: &Pace) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    let mut taken = TAKEN.0;
    loop {
        tokio::time::sleep(Duration::from_millis(pace.courtesy.load(Relaxed))).await;
        let report = match database.connection().await {
            Ok(mut connection) => {
                connection.set_call_timeout(LONGEST_CHORE);
                Calls::on(connection, database.schema().clone()).run_chore().await
            }
            Err(error) => Err(error),
        };
        match report {
            Ok(report) => {
                backoff = Backoff::default();
                pace.done.fetch_add(i64::from(report.name.is_some()), Relaxed);
                match (&report.name, &report.failure) {
                    (Some(chore), Some(failure)) => tracing::error!(chore, failure, "chore failed"),
                    (Some(chore), None) if report.items > Some(0) => {
                        tracing::debug!(chore, items = report.items, took = ?report.took, "chore done");
                    }
                    _ => {}
                }
                if report.name.is_none() || report.failure.is_some() {
                    // At least a little: another scheduler may be at the chore that is due, and some chores take long.
                    taken = if report.due_in < TAKEN.0 { (taken * 2).min(TAKEN.1) } else { TAKEN.0 };
                    tokio::time::sleep(report.due_in.clamp(taken, LONGEST_SLEEP)).await;
                }
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for the database");
                backoff.wait().await;
            }
            Err(error @ (Error::NotInstalled(_) | Error::Denied(_) | Error::TooNew { .. })) => return Err(error),
            Err(error) => {
                tracing::error!(%error, "chores cannot be done; trying again");
                backoff.wait().await;
            }
        }
    }
}
