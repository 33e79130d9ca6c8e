//! What all tests share: one server, one database per test, and a check of the rooms at the end of each.

mod child;
mod database;
mod handlers;
mod wait;

pub use child::{Child, child_main};
pub use database::{Running, TestDb, with_database};
pub use handlers::nothing;
pub use wait::{eventually, within};
