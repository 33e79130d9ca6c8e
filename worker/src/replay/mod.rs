//! What one attempt at a durable function knows: its history, what it waits for, and checkpoints on their way to the database.
//!
//! The functions that handlers call stand above this, in [`durable`](crate::durable).

mod history;
mod place_of_call;
pub(crate) mod saver;
mod waiting;

pub(crate) use history::{History, Place, described};
pub(crate) use place_of_call::{check_durable, check_wait, in_checkpoint};
pub(crate) use waiting::{Suspended, Waiting, until_suspended};
