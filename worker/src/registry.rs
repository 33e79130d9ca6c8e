//! Handlers by name. A registry is a value that is passed in: there is no global one.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use futures::future::BoxFuture;
use longhaul_schema::{Error, Job, Payload, names::check_handler};
use serde::{Serialize, de::DeserializeOwned};

use crate::{StepContext, StepError};

/// Code that does steps. Async functions of a context and an input are handlers; see [`Registry::add`].
pub trait Handler: Send + Sync + 'static {
    /// Does one attempt at a step.
    fn call(&self, context: StepContext, input: Payload) -> BoxFuture<'static, Result<Payload, StepError>>;
}

/// A set of handlers, each under a name.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<String, Arc<dyn Handler>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an async function `(StepContext, In) -> Result<Out, StepError>`. Input and output are JSON by serde; an input
    /// that does not fit fails the step without retries. Fails when the name is malformed or taken.
    pub fn add<F, In, Out, Fut>(&mut self, name: &str, function: F) -> Result<(), Error>
    where
        F: Fn(StepContext, In) -> Fut + Send + Sync + 'static,
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + 'static,
        Fut: Future<Output = Result<Out, StepError>> + Send + 'static,
    {
        self.add_handler(name, Arc::new(Function { function, types: PhantomData }))
    }

    /// Adds the function that does a job. Name, input and output are the job's.
    pub fn add_job<F, In, Out, Fut>(&mut self, job: Job<In, Out>, function: F) -> Result<(), Error>
    where
        F: Fn(StepContext, In) -> Fut + Send + Sync + 'static,
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + 'static,
        Fut: Future<Output = Result<Out, StepError>> + Send + 'static,
    {
        self.add(job.name(), function)
    }

    /// Adds a handler object, for code that takes and gives JSON text.
    pub fn add_handler(&mut self, name: &str, handler: Arc<dyn Handler>) -> Result<(), Error> {
        check_handler(name)?;
        if self.handlers.contains_key(name) {
            return Err(Error::Conflict(format!("there are two handlers named {name}")));
        }
        self.handlers.insert(name.into(), handler);
        Ok(())
    }

    /// Takes over all handlers of another registry.
    pub fn merge(&mut self, other: Registry) -> Result<(), Error> {
        for (name, handler) in other.handlers {
            self.add_handler(&name, handler)?;
        }
        Ok(())
    }

    /// Keeps only these handlers. Fails when one of them is not there: an allow-list with a typing error would silently
    /// leave its steps waiting.
    pub fn allow(&mut self, names: &[&str]) -> Result<(), Error> {
        if let Some(unknown) = names.iter().find(|name| !self.handlers.contains_key(**name)) {
            return Err(Error::NotFound(format!("the allow-list names {unknown}, but there is no such handler")));
        }
        self.handlers.retain(|name, _| names.contains(&name.as_str()));
        Ok(())
    }

    /// The handler of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

struct Function<F, In, Out> {
    function: F,
    types: PhantomData<fn(In) -> Out>,
}

impl<F, In, Out, Fut> Handler for Function<F, In, Out>
where
    F: Fn(StepContext, In) -> Fut + Send + Sync + 'static,
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + 'static,
    Fut: Future<Output = Result<Out, StepError>> + Send + 'static,
{
    fn call(&self, context: StepContext, input: Payload) -> BoxFuture<'static, Result<Payload, StepError>> {
        let input = match input.read::<In>() {
            Ok(input) => input,
            Err(error) => {
                let error =
                    StepError::fail(format!("the input does not fit handler {}: {error}", context.inner.step.handler));
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let outcome = (self.function)(context, input);
        Box::pin(async move {
            let output = outcome.await?;
            Payload::new(&output).map_err(|e| StepError::fail(format!("the output cannot be stored: {e}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn nothing(_: StepContext, (): ()) -> Result<(), StepError> {
        Ok(())
    }

    #[test]
    fn names_are_checked_and_unique() {
        let mut registry = Registry::new();
        registry.add("a.b", nothing).unwrap();
        assert!(matches!(registry.add("a.b", nothing), Err(Error::Conflict(_))));
        assert!(matches!(registry.add("a..b", nothing), Err(Error::Invalid(_))));
        assert_eq!(registry.names().collect::<Vec<_>>(), ["a.b"]);
    }

    #[test]
    fn an_allow_list_keeps_only_what_it_names() {
        let mut registry = Registry::new();
        registry.add("a", nothing).unwrap();
        registry.add("b", nothing).unwrap();
        assert!(registry.clone().allow(&["a", "c"]).is_err());
        registry.allow(&["b"]).unwrap();
        assert_eq!(registry.names().collect::<Vec<_>>(), ["b"]);
    }
}
