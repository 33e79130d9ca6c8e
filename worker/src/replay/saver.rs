//! Saves checkpoints.

use longhaul_schema::{
    Database, Error,
    calls::{AttemptKey, NewCheckpoint, RefusedAttempt},
    payload::into_calls,
};
use tokio::sync::{mpsc, oneshot};

use crate::batch::{self, Destination, Stored, reachable, reason};

/// Most checkpoints in one call.
const MAX_BATCH: usize = 500;

/// A checkpoint on its way, and who waits for it.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) checkpoint: NewCheckpoint,
    pub(crate) saved: oneshot::Sender<Result<(), NotSaved>>,
}

/// Why a checkpoint was not saved.
#[derive(Debug)]
pub(crate) enum NotSaved {
    /// The step is no longer this worker's.
    LeaseLost,
    /// The database cannot store it.
    Invalid(String),
}

/// Saves until all senders are gone. While the database is away the functions wait.
pub(crate) async fn run(database: Database, worker: i64, saves: mpsc::Receiver<Save>) -> Result<(), Error> {
    batch::run(&Saver { database, worker }, saves, MAX_BATCH).await
}

struct Saver {
    database: Database,
    worker: i64,
}

impl Destination for Saver {
    type Item = Save;

    fn calls(&self, batch: Vec<Save>) -> Vec<Vec<Save>> {
        into_calls(batch, MAX_BATCH, |save| save.checkpoint.value.as_str().len())
    }

    async fn store(&self, saves: Vec<Save>) -> Stored<Save> {
        let (checkpoints, waiting): (Vec<_>, Vec<_>) = saves.into_iter().map(|s| (s.checkpoint, s.saved)).unzip();
        let answer = async { self.database.calls().await?.try_save_checkpoints(self.worker, &checkpoints).await }.await;
        let (busy, lost): (Vec<_>, Vec<_>) = match answer {
            Ok(refused) => refused.into_iter().partition(RefusedAttempt::is_busy),
            Err(error) => {
                let saves = checkpoints.into_iter().zip(waiting);
                return Err((saves.map(|(checkpoint, saved)| Save { checkpoint, saved }).collect(), error));
            }
        };
        let names = |refused: &[RefusedAttempt], key: AttemptKey| refused.iter().any(|refused| refused.key == key);
        let mut again = Vec::new();
        for (checkpoint, saved) in checkpoints.into_iter().zip(waiting) {
            if names(&busy, checkpoint.key) {
                again.push(Save { checkpoint, saved });
            } else {
                // Whoever does not wait any more was cancelled.
                let _ = saved.send(if names(&lost, checkpoint.key) { Err(NotSaved::LeaseLost) } else { Ok(()) });
            }
        }
        Ok(again)
    }

    /// A checkpoint that cannot be stored fails its own function only.
    async fn refused(&self, save: Save, error: &Error) -> Option<Save> {
        let _ = save.saved.send(Err(NotSaved::Invalid(reason(error))));
        None
    }

    async fn reachable(&self) -> bool {
        reachable(&self.database).await
    }

    /// Those whose functions were stopped meanwhile are not sent again.
    fn is_wanted(&self, save: &Save) -> bool {
        !save.saved.is_closed()
    }
}
