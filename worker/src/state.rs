//! What the handlers of a worker share.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    sync::Arc,
};

use crate::StepError;

/// One value of each type.
#[derive(Clone, Default)]
pub(crate) struct States {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl States {
    /// Adds a value; false when there is one of its type already.
    pub(crate) fn add<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        self.values.insert(TypeId::of::<T>(), Arc::new(value)).is_none()
    }

    /// The value of a type.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Result<&T, StepError> {
        self.values.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref()).ok_or_else(|| {
            // Retried: the next release of the program may have it.
            StepError::retry(format!(
                "this worker has no state of type {0}: give it one with Worker::builder(…).state(…)",
                type_name::<T>()
            ))
            .code("no_state")
        })
    }
}

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "States({})", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_found_by_its_type_and_one_that_is_missing_is_named() {
        let mut states = States::default();
        assert!(states.add(7_u32) && states.add("seven") && !states.add(8_u32));
        assert_eq!((states.get::<u32>().unwrap(), states.get::<&str>().unwrap()), (&8, &"seven"));
        let error = states.get::<String>().unwrap_err();
        assert!(error.to_string().contains("alloc::string::String") && error.is_retryable(), "{error}");
    }
}
