//! The tasks that a session needs. They go on until the session ends: whichever ends before, or panics, ends it.

use std::collections::HashMap;

use longhaul_schema::Error;
use tokio::task::{Id, JoinSet};

use crate::own_thread::OwnThread;

/// Tasks, each with a name. Dropped, it ends them all.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: JoinSet<Result<(), Error>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task.
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), Error>> + Send + 'static) {
        self.names.insert(self.tasks.spawn(task).id(), name);
    }

    /// Starts work on a thread of its own.
    pub(crate) fn own_thread<Fut>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Fut + Send + 'static,
    ) -> Result<(), Error>
    where
        Fut: Future<Output = Result<(), Error>>,
    {
        let mut thread = OwnThread::start(name, work)?;
        self.spawn(name, async move {
            thread.outcome().await.unwrap_or_else(|| Err(Error::Corrupt(format!("the thread {name} panicked"))))
        });
        Ok(())
    }

    /// Waits for the first that ends, and says why.
    pub(crate) async fn ended(&mut self) -> String {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, Ok(())))) => format!("the {} ended", self.names[&id]),
            Some(Ok((id, Err(error)))) => format!("the {} ended: {error}", self.names[&id]),
            Some(Err(error)) => format!("the {} panicked", self.names[&error.id()]),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_ends_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("patient one", std::future::pending());
        tasks.spawn("short one", async { Err(Error::NotFound("nothing here".into())) });
        assert_eq!(tasks.ended().await, "the short one ended: nothing here");
        tasks.spawn("broken one", async { panic!("as it must") });
        assert_eq!(tasks.ended().await, "the broken one panicked");
        tasks.own_thread("thread", || async { Ok(()) }).unwrap();
        assert_eq!(tasks.ended().await, "the thread ended");
    }
}
