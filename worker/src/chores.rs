//! The chores, when nobody else does them: one worker alone is a whole system.
//!
//! The watch sleeps nearly always. It asks now and then, in one cheap call, whether a chore or a tick is overdue that nobody is at;
//! only then does this process become a scheduler, until it sees that another one does all the work. It has a thread and
//! connections of its own, so that it does not matter what handlers do.

use std::time::Duration;

use longhaul_scheduler::Scheduler;
use longhaul_schema::{Config, Database, Error, backoff::Backoff, calls::Neglected};
use rand::Rng;

use crate::own_thread::OwnThread;

/// Overdue by more than this means that nobody does it.
const LATE: Duration = Duration::from_secs(1);

/// Between two looks, while few workers live.
const LOOK: Duration = Duration::from_secs(2);

/// As many workers look each once in [`LOOK`]; more of them look more rarely, so that the database is asked as often in all.
const FEW: u32 = 4;

/// Longest time between two looks.
const RARELY: Duration = Duration::from_secs(60);

/// One connection for each of the scheduler's hands.
const CONNECTIONS: usize = 2;

/// Starts the watch; it ends when the thread is dropped.
pub(crate) fn start(config: &Config) -> Result<OwnThread<()>, Error> {
    let config = config.clone().pool_size(CONNECTIONS);
    OwnThread::start("longhaul-chores", move || async move {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            // A task of its own: should it panic, that is not the end of all chores.
            match tokio::spawn(watch(config.clone())).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::warn!(%error, "this worker cannot do the chores; others have to"),
                Err(error) => tracing::error!(%error, "the watch over the chores broke down"),
            }
            backoff.wait().await;
        }
    })
}

async fn watch(config: Config) -> Result<(), Error> {
    let database = Database::new(&config)?;
    let mut backoff = Backoff::default();
    // The first look comes soon: this may be all that there is.
    let mut pause = LOOK / 8;
    loop {
        tokio::time::sleep(jittered(pause)).await;
        match look(&database).await {
            Ok(seen) => {
                backoff = Backoff::default();
                pause = pause_among(seen.workers);
                if seen.late > LATE {
                    tracing::info!(late = ?seen.late, "nobody does the chores: this worker does them");
                    Scheduler::on(database.clone()).while_needed().await?;
                    tracing::info!("others do the chores");
                }
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "the chores cannot be looked at");
                backoff.wait().await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn look(database: &Database) -> Result<Neglected, Error> {
    database.calls().await?.neglected_chores().await
}

/// How long to wait before the next look, among so many workers.
fn pause_among(workers: u32) -> Duration {
    (LOOK * workers.div_ceil(FEW).clamp(1, 1000)).min(RARELY)
}

/// From a half to one and a half of it: workers that were started together do not look together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_fleet_asks_no_more_often_than_a_small_one() {
        assert_eq!([0, 1, 4, 5, 40, 1_000_000].map(pause_among), [2, 2, 2, 4, 20, 60].map(Duration::from_secs));
    }
}
