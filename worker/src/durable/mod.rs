//! Durable functions: plain async handlers with named checkpoints, sleeps, signals, child runs and parallel branches.
//!
//! A handler that calls these methods of its [`StepContext`](crate::StepContext) is resumed after a crash at the first thing that was not done:
//! it is called again from the start, and everything that stands in its history is answered from there. While it waits for
//! something durable it holds no slot: its future is dropped, and the step stands in the room `wait`.
//!
//! The code between these calls must be deterministic: the same history leads to the same calls. What is not belongs into
//! [`StepContext::checkpoint`](crate::StepContext::checkpoint), [`StepContext::now`](crate::StepContext::now), [`StepContext::random`](crate::StepContext::random) or [`StepContext::uuid`](crate::StepContext::uuid). A call that does not
//! fit the history is reported (code `history_mismatch`) and nothing is misread; [`StepContext::patched`](crate::StepContext::patched) changes code under
//! live runs. The method is known from Azure Durable Functions (Burckhardt et al., 2021) and Temporal.

mod branches;
mod operations;
mod question;

pub use branches::{Branch, branch};
pub use operations::Signalled;
pub use question::{Decision, Question};
