//! Where durable things may be called: in the handler's own task, and not in the closure of a checkpoint.
//!
//! A closure is not called again once its value is stored, so that whatever it did durably would be missing then; and a function
//! cannot be suspended while one runs. A wait in another task would suspend nothing. Both used to hang; both are told at once.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    task::Poll,
};

use longhaul_schema::calls::AttemptKey;

use crate::StepError;

thread_local! {
    /// The attempt whose handler this thread polls.
    static HANDLER: Cell<Option<AttemptKey>> = const { Cell::new(None) };
    /// The checkpoint whose closure it polls.
    static CLOSURE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Polls a handler.
pub(super) fn in_handler<T>(key: AttemptKey, poll: impl FnOnce() -> T) -> T {
    struct Leave(Option<AttemptKey>);
    impl Drop for Leave {
        fn drop(&mut self) {
            HANDLER.set(self.0);
        }
    }
    let _leave = Leave(HANDLER.replace(Some(key)));
    poll()
}

/// Runs the closure of a checkpoint.
pub(crate) async fn in_checkpoint<T>(name: &str, work: impl Future<Output = T>) -> T {
    struct Leave(Option<Arc<str>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            CLOSURE.set(self.0.take());
        }
    }
    let name: Arc<str> = name.into();
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(move |context| -> Poll<T> {
        let _leave = Leave(CLOSURE.replace(Some(name.clone())));
        work.as_mut().poll(context)
    })
    .await
}

/// Fails in the closure of a checkpoint.
pub(crate) fn check_durable(call: &str) -> Result<(), StepError> {
    let Some(name) = CLOSURE.with_borrow(Clone::clone) else { return Ok(()) };
    Err(StepError::fail(format!(
        "{call} cannot be called in the closure of checkpoint {name:?}: the closure is not called again once its value is stored. \
         Call it before or after the checkpoint"
    ))
    .code("misplaced_call"))
}

/// Fails where a wait would not suspend the handler.
pub(crate) fn check_wait(key: AttemptKey, call: &str) -> Result<(), StepError> {
    check_durable(call)?;
    if HANDLER.get() == Some(key) {
        return Ok(());
    }
    Err(StepError::fail(format!(
        "{call} cannot be awaited in a task of its own, nor in a policy: only the handler itself can be suspended"
    ))
    .code("misplaced_call"))
}
