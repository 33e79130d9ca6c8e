//! Parallel branches. Each has places of its own, so that the history does not depend on which one is faster.

use futures::future::{BoxFuture, select_all, try_join_all};
use longhaul_schema::Payload;

use crate::{StepContext, StepError};

/// A branch of [`StepContext::all`] or [`StepContext::race`]; made by [`branch`].
pub type Branch<T> = Box<dyn FnOnce(StepContext) -> BoxFuture<'static, Result<T, StepError>> + Send>;

/// Makes a branch of an async closure, which is given a context of its own and must use that one.
///
/// ```
/// use std::time::Duration;
/// use longhaul_worker::{StepContext, StepError, branch};
///
/// async fn answer(ctx: StepContext, _: ()) -> Result<Option<String>, StepError> {
///     ctx.race([
///         branch(|ctx| async move { Ok(Some(ctx.signal("answer").await?)) }),
///         branch(|ctx| async move { ctx.sleep("patience", Duration::from_secs(86_400)).await?; Ok(None) }),
///     ])
///     .await
/// }
/// ```
pub fn branch<T, F, Fut>(function: F) -> Branch<T>
where
    F: FnOnce(StepContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, StepError>> + Send + 'static,
{
    Box::new(move |context| Box::pin(function(context)))
}

impl StepContext {
    /// Runs branches at the same time and gives all their values, in their order; fails with the first error.
    pub async fn all<T>(&self, branches: impl IntoIterator<Item = Branch<T>>) -> Result<Vec<T>, StepError> {
        let place = self.place("all", "").await?;
        let branches = branches.into_iter().enumerate();
        try_join_all(branches.map(|(number, branch)| branch(self.branch(&place.path, number)))).await
    }

    /// Runs branches at the same time and gives the value or the error of the first that ends. The others are dropped: what
    /// they had begun (a sleep, a child run) is not waited for any more. Which one won is recorded.
    pub async fn race<T>(&self, branches: impl IntoIterator<Item = Branch<T>>) -> Result<T, StepError> {
        let place = self.place("race", "").await?;
        let mut branches: Vec<Branch<T>> = branches.into_iter().collect();
        if let Some((_, winner)) = &place.answer {
            let winner: usize = winner.read()?;
            if winner >= branches.len() {
                return Err(StepError::fail(format!(
                    "the code no longer matches its history: branch {winner} won the race at {}, but there are only {}",
                    place.path,
                    branches.len()
                ))
                .code("history_mismatch"));
            }
            let context = self.branch(&place.path, winner);
            return branches.swap_remove(winner)(context).await;
        }
        if branches.is_empty() {
            return Err(StepError::fail("a race without branches has no winner"));
        }
        let racing = branches.into_iter().enumerate().map(|(number, branch)| branch(self.branch(&place.path, number)));
        let (outcome, winner, losers) = select_all(racing).await;
        drop(losers);
        self.save(place.path, "race", "", Payload::new(&winner)?).await?;
        outcome
    }
}
