//! A started run.

use std::time::{Duration, Instant};

use longhaul_schema::{
    Payload,
    calls::{RunInfo, RunState},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{Client, Error};

/// Points to a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RunHandle {
    client: Client,
    id: Uuid,
}

/// First and longest wait between two looks at a run.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

impl RunHandle {
    pub(crate) fn new(client: Client, id: Uuid) -> Self {
        Self { client, id }
    }

    /// The run's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its present state.
    pub async fn get(&self) -> Result<RunInfo, Error> {
        self.client.get(self.id).await
    }

    /// Stops the run: once this has returned, no step of it is claimed any more, and handlers of it that run are stopped.
    /// Refused, with its state, when the run has ended; so is, after a lost answer, the repetition of a stop that was made.
    pub async fn stop(&self) -> Result<(), Error> {
        let database = self.client.database();
        database.calls().await?.stop_run(database.tenant(), self.id).await
    }

    /// Waits until the run has ended, however it ended; `None` when it has not within `timeout`.
    pub async fn wait(&self, timeout: Duration) -> Result<Option<RunInfo>, Error> {
        let deadline = Instant::now() + timeout;
        let mut wait = FIRST_LOOK;
        loop {
            let run = self.get().await?;
            if run.state.is_final() {
                return Ok(Some(run));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(wait.min(left)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits, as long as it takes, until the run has completed, and reads its output: that of its last step or, when several
    /// steps have no successor, an object of their outputs by name. Fails when the run failed or was cancelled.
    pub async fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let run = loop {
            if let Some(run) = self.wait(Duration::from_secs(3600)).await? {
                break run;
            }
        };
        if run.state != RunState::Completed {
            let error = run.error.as_ref().map(|e| format!(": {}", e.as_str())).unwrap_or_default();
            return Err(Error::Refused(format!("run {} is {} and has no output{error}", self.id, run.state)));
        }
        let id = self.id;
        let output = self.client.database().retrying(|calls| async move { calls.run_output(id).await }).await?;
        output.unwrap_or_else(Payload::null).read()
    }
}
