//! How eagerly a scheduler does the chores, and how many it has done.

use std::sync::atomic::{AtomicI64, AtomicU64};

/// How eagerly chores are done, and how many were.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Milliseconds that others are given before a chore that is due is done here.
    pub(crate) courtesy: AtomicU64,
    /// Chores done here.
    pub(crate) done: AtomicI64,
}
