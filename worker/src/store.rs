//! What a handler's context reads of its run: from the database or, in a test of a handler, from what the test has given.

use longhaul_schema::{
    Database, Error, Payload, SchemaName,
    calls::{AttemptKey, Checkpoint, NewWait, StepKey},
};
use uuid::Uuid;

#[cfg(feature = "testing")]
use crate::scripted::Scripted;

/// Where a run can be read.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// The database of the worker.
    Database(Database),
    /// What a test says.
    #[cfg(feature = "testing")]
    Scripted(std::sync::Arc<Scripted>),
}

impl Store {
    /// The tenant of the run.
    pub(crate) fn tenant(&self) -> &str {
        match self {
            Self::Database(database) => database.tenant(),
            #[cfg(feature = "testing")]
            Self::Scripted(script) => &script.tenant,
        }
    }

    /// The schema of the installation.
    pub(crate) fn schema(&self) -> SchemaName {
        match self {
            Self::Database(database) => database.schema().clone(),
            #[cfg(feature = "testing")]
            Self::Scripted(_) => SchemaName::default(),
        }
    }

    /// The history of a step.
    pub(crate) async fn history(&self, step: StepKey) -> Result<Vec<Checkpoint>, Error> {
        match self {
            Self::Database(database) => database.retrying(|calls| async move { calls.history(step).await }).await,
            #[cfg(feature = "testing")]
            Self::Scripted(script) => Ok(script.history()),
        }
    }

    /// The output of a step, if it has one.
    pub(crate) async fn step_output(&self, run: Uuid, step: &str) -> Result<Option<Payload>, Error> {
        match self {
            Self::Database(database) => {
                database.retrying(|calls| async move { calls.step_output(run, step).await }).await
            }
            #[cfg(feature = "testing")]
            Self::Scripted(script) => script.step_output(step),
        }
    }

    /// Whether a step has ended.
    pub(crate) async fn step_has_ended(&self, run: Uuid, step: &str) -> Result<bool, Error> {
        match self {
            Self::Database(database) => {
                let outcome = database.retrying(|calls| async move { calls.step_outcome(run, step).await }).await?;
                Ok(outcome.is_some())
            }
            #[cfg(feature = "testing")]
            Self::Scripted(script) => script.step_output(step).map(|_| true),
        }
    }

    /// Outputs of the items of a fan-out.
    pub(crate) async fn item_outputs(
        &self,
        run: Uuid,
        step: &str,
        from: i32,
        limit: i32,
    ) -> Result<Vec<Option<Payload>>, Error> {
        match self {
            Self::Database(database) => {
                let items =
                    database.retrying(|calls| async move { calls.item_outputs(run, step, from, limit).await }).await?;
                Ok(items.into_iter().map(|item| item.output).collect())
            }
            #[cfg(feature = "testing")]
            Self::Scripted(script) => script.item_outputs(step, from, limit),
        }
    }

    /// Starts a child run that nobody waits for; `None` while somebody else is at the run.
    pub(crate) async fn try_start_detached(
        &self,
        worker: i64,
        key: AttemptKey,
        child: &NewWait,
    ) -> Result<Option<Uuid>, Error> {
        match self {
            Self::Database(database) => {
                database.retrying(|calls| async move { calls.try_start_detached(worker, key, child).await }).await
            }
            #[cfg(feature = "testing")]
            Self::Scripted(script) => Ok(Some(script.start_detached(child))),
        }
    }
}
