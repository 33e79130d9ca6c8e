//! Named locks.

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{Error, calls::LockInfo};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{
    caller::Reader,
    extract::{Json, Query},
    problem::Problem,
};

/// A lock.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Lock {
    /// Its name.
    name: String,
    /// Who holds it, or held it last until it expired.
    holder: Option<String>,
    /// Whether it is held.
    held: bool,
    /// The fencing token of the last hold.
    token: i64,
    /// When that began.
    acquired_at: Option<DateTime<Utc>>,
    /// When it ends by itself.
    expires_at: Option<DateTime<Utc>>,
    /// How often it was acquired.
    acquired: i64,
    /// How often it was found taken.
    blocked: i64,
    /// How often it expired in its holder's hands.
    expired: i64,
}

/// Which locks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those that are free as well.
    all: Option<bool>,
}

/// The locks of a tenant.
pub(in super::super) async fn locks(client: &Client, all: bool) -> Result<Vec<Lock>, Error> {
    let lock = |l: LockInfo| Lock {
        name: l.name,
        holder: l.holder,
        held: l.held,
        token: l.token,
        acquired_at: l.acquired_at,
        expires_at: l.expires_at,
        acquired: l.acquired,
        blocked: l.blocked,
        expired: l.expired,
    };
    Ok(client.locks(!all).await?.into_iter().map(lock).collect())
}

/// The locks that are held, by name.
#[utoipa::path(get, path = "/locks", tag = "locks", params(Which), responses((status = 200, body = [Lock]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<Vec<Lock>>, Problem> {
    Ok(Json(locks(&reader.client, which.all.unwrap_or_default()).await?))
}
