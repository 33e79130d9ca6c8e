//! A connection of the pool that is not given back when it has gone silent.

use std::{
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object};

/// A connection of the pool. It goes back when dropped, unless a call on it got no answer in time: then it is closed, because
/// whatever is asked next would wait behind that answer.
#[derive(Debug)]
pub struct Connection {
    /// `None` only while it is being dropped.
    object: Option<Object>,
    silent: AtomicBool,
    call_timeout: Duration,
}

impl Connection {
    pub(super) fn new(object: Object, call_timeout: Duration) -> Self {
        Self { object: Some(object), silent: AtomicBool::new(false), call_timeout }
    }

    /// Longest wait for the answer of a call.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Waits so long for answers from now on.
    pub fn set_call_timeout(&mut self, timeout: Duration) {
        self.call_timeout = timeout;
    }

    /// An answer did not come in time.
    pub(crate) fn give_up(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Takes the connection out of the pool for good.
    pub(crate) fn detach(mut self) -> ClientWrapper {
        Object::take(self.object.take().expect("there until it is dropped"))
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.object.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        self.object.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && self.silent.load(Ordering::Relaxed)
        {
            drop(Object::take(object));
        }
    }
}
