//! Flows: deploying and reading them.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;

use super::{Calls, Executor, Name, Row, every, readable};
use crate::{Error, Flow, Payload, Result, duration::from_millis};

/// What became of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deployment {
    /// The flow version's id in this database.
    pub flow_id: i32,
    /// Its version.
    pub version: i32,
    /// False when this very definition had been deployed before.
    pub created: bool,
}

/// A deployed flow version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlowInfo {
    /// Its id in this database.
    pub id: i32,
    /// Name of the flow.
    pub name: Name,
    /// Version.
    pub version: i32,
    /// Number of steps.
    pub steps: i32,
    /// Equal for equal definitions, in any installation.
    pub checksum: String,
    /// When it was deployed.
    pub deployed_at: DateTime<Utc>,
    /// The definition, with its defaults filled in.
    pub definition: Payload,
}

/// A difference between two versions of a flow.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Difference {
    /// The step; `None` for a setting of the flow itself.
    pub step: Option<String>,
    /// added, removed or changed.
    pub change: String,
    /// What it said before, where that differs.
    pub before: Option<Payload>,
    /// What it says after, where that differs.
    pub after: Option<Payload>,
}

/// What a worker must know of a step to do it.
#[derive(Clone, Debug)]
pub struct FlowStep {
    /// Number within the flow version.
    pub seq: i32,
    /// Name of the flow.
    pub flow: Name,
    /// Version of the flow.
    pub version: i32,
    /// Name of the step.
    pub name: Name,
    /// Name of its handler; empty for steps that the database does itself.
    pub handler: Name,
    /// Most attempts.
    pub max_attempts: i16,
    /// Longest time of an attempt.
    pub timeout: Option<std::time::Duration>,
    /// Constant settings for the handler.
    pub parameters: Option<Payload>,
    /// Whether checkpoints are saved.
    pub checkpoints: bool,
}

impl<E: Executor> Calls<E> {
    /// Deploys a flow version for a tenant. The same definition again changes nothing.
    pub async fn deploy(&self, tenant: &str, flow: &Flow) -> Result<Deployment> {
        // JSON itself cannot hold \u0000 on its way into jsonb; the check gives the better message.
        Payload::new(flow)?;
        let row = self
            .row("select flow_id, flow_version, created from longhaul.deploy($1, $2)", &[&tenant, &Json(flow)])
            .await?;
        Ok(Deployment { flow_id: row.try_get(0)?, version: row.try_get(1)?, created: row.try_get(2)? })
    }

    /// All flow versions of a tenant, by name and version.
    pub async fn list_flows(&self, tenant: &str) -> Result<Vec<FlowInfo>> {
        let rows = self
            .rows(
                "select id, name, version, step_count, checksum, deployed_at, definition from longhaul.flow
                 where tenant = $1 order by name, version",
                &[&tenant],
            )
            .await?;
        readable(&rows, flow_info)
    }

    /// One flow version, the latest when none is named.
    pub async fn get_flow(&self, tenant: &str, name: &str, version: Option<i32>) -> Result<FlowInfo> {
        let rows = self
            .rows(
                "select id, name, version, step_count, checksum, deployed_at, definition from longhaul.flow
                 where tenant = $1 and name = $2 and ($3::int is null or version = $3) order by version desc limit 1",
                &[&tenant, &name, &version],
            )
            .await?;
        rows.first().map(flow_info).unwrap_or_else(|| {
            let version = version.map(|v| format!(" version {v}")).unwrap_or_default();
            Err(Error::NotFound(format!("there is no flow {name}{version} for tenant {tenant}; deploy it first")))
        })
    }

    /// How two versions of a flow differ.
    pub async fn flow_difference(&self, tenant: &str, name: &str, from: i32, to: i32) -> Result<Vec<Difference>> {
        let rows = self
            .rows(
                "select step, change, before, after from longhaul.flow_difference($1, $2, $3, $4)",
                &[&tenant, &name, &from, &to],
            )
            .await?;
        readable(&rows, |row| {
            Ok(Difference {
                step: row.try_get("step")?,
                change: row.try_get("change")?,
                before: row.try_get("before")?,
                after: row.try_get("after")?,
            })
        })
    }

    /// How many live runs each version of a flow has, by version; versions without any are left out.
    pub async fn live_versions(&self, tenant: &str, name: &str) -> Result<Vec<(i32, i64)>> {
        let rows = self
            .rows(
                "select version, live_runs from longhaul.flow_versions where tenant = $1 and name = $2 and live_runs > 0 order by version",
                &[&tenant, &name],
            )
            .await?;
        readable(&rows, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
    }

    /// The steps of a flow version, by number.
    pub async fn flow_steps(&self, flow_id: i32) -> Result<Vec<FlowStep>> {
        let rows = self
            .rows(
                "select s.seq, f.name as flow, f.version, s.name, coalesce(l.handler, '') as handler, s.max_attempts, s.timeout_ms, s.parameters,
                        coalesce((f.definition ->> 'checkpoints')::boolean, true) as checkpoints
                 from longhaul.flow f
                 join longhaul.flow_step s on s.flow_id = f.id
                 left join longhaul.lane l on l.id = s.lane_id
                 where f.id = $1 order by s.seq",
                &[&flow_id],
            )
            .await?;
        let flow: Name = rows.first().map(|row| row.try_get("flow")).transpose()?.unwrap_or_else(|| "".into());
        every(&rows, |row| {
            Ok(FlowStep {
                seq: row.try_get("seq")?,
                flow: flow.clone(),
                version: row.try_get("version")?,
                name: row.try_get("name")?,
                handler: row.try_get("handler")?,
                max_attempts: row.try_get("max_attempts")?,
                timeout: row.try_get::<Option<i64>>("timeout_ms")?.map(from_millis),
                parameters: row.try_get("parameters")?,
                checkpoints: row.try_get("checkpoints")?,
            })
        })
    }
}

fn flow_info(row: &Row) -> Result<FlowInfo> {
    Ok(FlowInfo {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        steps: row.try_get("step_count")?,
        checksum: row.try_get("checksum")?,
        deployed_at: row.try_get("deployed_at")?,
        definition: row.try_get("definition")?,
    })
}
