//! What acts answer.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// An act that was carried out.
#[derive(Serialize, ToSchema)]
pub(super) struct Acted {
    /// Its id in the record of acts.
    pub(super) act: Uuid,
    /// False: it was so already.
    pub(super) changed: bool,
}
