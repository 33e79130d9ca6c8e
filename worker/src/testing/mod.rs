//! Calling a handler in a test, without a database.
//!
//! A [`TestStep`] says what the handler will meet: outputs of earlier steps, signals, answers, outputs of child runs. It calls the
//! handler as a worker does: when the handler waits for something durable, its future is dropped, the test's time moves on, and the
//! handler is called again from the start with its history. So a test also finds code that does not match its own history.
//!
//! ```
//! use std::time::Duration;
//! use longhaul_worker::{StepContext, StepError, testing::TestStep};
//!
//! async fn remind(ctx: StepContext, name: String) -> Result<String, StepError> {
//!     let address: String = ctx.output("look up").await?;
//!     let sent: u32 = ctx.checkpoint("send", || async { Ok(1) }).await?;
//!     ctx.sleep("two weeks", Duration::from_secs(14 * 86_400)).await?;
//!     let paid: bool = ctx.signal("paid").await?;
//!     Ok(format!("{name} at {address}: {sent} mail, paid: {paid}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let done = TestStep::new()
//!     .output("look up", &"ada@example.org")
//!     .signal("paid", &true)
//!     .call(remind, &"Ada")
//!     .await;
//! assert_eq!(done.slept, Duration::from_secs(14 * 86_400));
//! assert_eq!(done.checkpoints(), ["send"]);
//! assert_eq!(done.into_output(), "Ada at ada@example.org: 1 mail, paid: true");
//! # }
//! ```
//!
//! For whole flows, on a real server whose time a test moves by hand, there is the crate `longhaul-testing`.

mod answers;
mod outcome;
mod step;

pub use outcome::{Called, End};
pub use step::TestStep;

#[cfg(test)]
mod tests;
