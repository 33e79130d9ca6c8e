//! Workers, and the steps in flight.

use chrono::{DateTime, Utc};
use longhaul_scheduler::Client;
use longhaul_schema::{Error, calls};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    caller::Reader,
    extract::{Json, Query},
    page,
    problem::Problem,
};

/// A worker.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Worker {
    /// Its id.
    id: i64,
    /// Its name.
    name: String,
    /// Its machine.
    host: String,
    /// Its process.
    pid: i32,
    /// active, draining, lost or gone.
    state: String,
    /// Since when it is there.
    started_at: DateTime<Utc>,
    /// When it last said that it lives.
    heartbeat_at: DateTime<Utc>,
    /// When its steps go to others, unless it says so again.
    expires_at: DateTime<Utc>,
    /// Its queues.
    queues: Vec<String>,
    /// What it can do.
    handlers: Vec<String>,
    /// Steps that it holds, those that it has claimed ahead of its slots among them.
    holds: i64,
}

/// Which workers.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those that left or were lost as well.
    all: Option<bool>,
}

/// The workers of a tenant.
pub(in super::super) async fn workers(client: &Client, all: bool) -> Result<Vec<Worker>, Error> {
    let database = client.database();
    let tenant = database.tenant();
    let workers = database.retrying(|calls| async move { calls.workers(tenant, all).await }).await?;
    let worker = |w: calls::WorkerInfo| Worker {
        id: w.id,
        name: w.name,
        host: w.host,
        pid: w.pid,
        state: w.state,
        started_at: w.started_at,
        heartbeat_at: w.heartbeat_at,
        expires_at: w.expires_at,
        queues: w.queues,
        handlers: w.handlers,
        holds: w.running,
    };
    Ok(workers.into_iter().map(worker).collect())
}

/// The workers, the newest first; at most 1000.
#[utoipa::path(get, path = "/workers", tag = "workers", params(Which), responses((status = 200, body = [Worker]), (status = "default", body = Problem)))]
pub(super) async fn list(reader: Reader, Query(which): Query<Which>) -> Result<Json<Vec<Worker>>, Problem> {
    Ok(Json(workers(&reader.client, which.all.unwrap_or_default()).await?))
}

/// A step in flight.
#[derive(Serialize, ToSchema)]
pub(super) struct Lease {
    /// The run.
    run: Uuid,
    /// The step.
    step: String,
    /// Number of the attempt.
    attempt: i32,
    /// Its worker.
    worker: i64,
    /// The worker's name, if it is known still.
    worker_name: Option<String>,
    /// The worker's machine.
    host: Option<String>,
    /// Since when.
    claimed_at: DateTime<Utc>,
    /// Until when at least.
    expires_at: Option<DateTime<Utc>>,
}

/// How many leases.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Limit {
    /// At most so many, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// The steps in flight, the longest first.
#[utoipa::path(get, path = "/leases", tag = "workers", params(Limit), responses((status = 200, body = [Lease]), (status = "default", body = Problem)))]
pub(super) async fn leases(reader: Reader, Query(which): Query<Limit>) -> Result<Json<Vec<Lease>>, Problem> {
    let limit = page::limit(which.limit)?;
    let database = reader.client.database();
    let tenant = database.tenant();
    let leases = database.retrying(|calls| async move { calls.leases(tenant, limit).await }).await?;
    let lease = |l: calls::LeaseInfo| Lease {
        run: l.run_id,
        step: l.step,
        attempt: l.attempt,
        worker: l.worker_id,
        worker_name: l.worker,
        host: l.host,
        claimed_at: l.claimed_at,
        expires_at: l.expires_at,
    };
    Ok(Json(leases.into_iter().map(lease).collect()))
}
