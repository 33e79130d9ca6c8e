//! The documents of this repository, read for tests.
//!
//! | test | what it does |
//! | --- | --- |
//! | `tests/docs/tests/rust.rs` | compiles every Rust block and runs the tests in them; `build.rs` puts them into functions |
//! | `tests/docs/tests/links.rs` | follows every link and anchor; looks whether the book has every page |
//! | `ops/tests/documents/` | runs every shell and SQL block, and checks every flow file |
//!
//! A page says in HTML comments, which no reader sees, what a block needs: see [`page`].

pub mod page;
pub mod placeholder;
pub mod shown;
pub mod statements;
