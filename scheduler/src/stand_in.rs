//! Standing in for a scheduler that is missing, and noticing when it is there again.
//!
//! Nobody says who does the chores; but they are counted. When more of them were done than here, others do some. From then on
//! each chore that is due is left to them for a moment, a random one: of two that stand in, one is quicker. Whoever does less than
//! a fifth of the work goes to sleep.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use longhaul_schema::Database;

use crate::{Error, pace::Pace};

/// Between two looks at what others did.
const LOOK: Duration = Duration::from_secs(5);

/// What others seem to have done may be less than it seems: a chore of our own that was counted before its answer came.
const FEW: i64 = 5;

/// Milliseconds that others are given, at least and at most.
const COURTESY: (u64, u64) = (100, 600);

/// Completes when all chores are done by others. Never while the database is away.
pub(crate) async fn until_others_do_it(database: &Database, pace: &Pace) {
    let mut before = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(all) = done_by_all(database).await else {
            before = None;
            continue;
        };
        let now = (all, pace.done.load(Relaxed));
        let Some((all_before, mine_before)) = before.replace(now) else { continue };
        let mine = now.1 - mine_before;
        let others = now.0 - all_before - mine;
        if others <= FEW {
            pace.courtesy.store(0, Relaxed);
        } else if mine < others / 4 {
            return;
        } else {
            pace.courtesy.store(random(), Relaxed);
        }
    }
}

async fn done_by_all(database: &Database) -> Result<i64, Error> {
    Ok(database.calls().await?.neglected_chores().await?.runs)
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // No more than a choice between two processes.
    COURTESY.0 + RandomState::new().hash_one(0) % (COURTESY.1 - COURTESY.0)
}
