//! Every Rust block of the documents compiles, and the tests in them pass. An error names a line of `blocks.rs`; the comment above it names the page.

/// What examples do not import: a page shows its imports where they matter.
#[allow(unused_imports, missing_docs)]
mod around {
    pub use std::time::Duration;

    pub use longhaul::*;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
    pub use uuid::Uuid;
}

include!(concat!(env!("OUT_DIR"), "/blocks.rs"));
