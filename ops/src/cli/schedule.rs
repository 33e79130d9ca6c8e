//! `schedule`: cron expressions that start runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use longhaul_scheduler::{Missed, Overlap, Schedule, schedules::upcoming};
use longhaul_schema::{Span, calls::ScheduleInfo};
use serde_json::json;

use super::{
    Context, Failure,
    moment::exact,
    operate::payload,
    output::{Cell, state, time},
    runs::value,
    start::suggest_flow,
};

/// Commands below `schedule`.
#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Make or change a schedule.
    #[command(after_help = "\
Examples:
  longhaul schedule put nightly '0 3 * * *' report --zone Europe/Berlin --overlap skip
  longhaul schedule put poll '*/10 * * * * *' poll --input '{\"all\": true}'    every ten seconds")]
    Put(Box<Put>),
    /// List the schedules.
    List,
    /// Show the next ticks of a schedule.
    Next {
        /// Name of the schedule.
        name: String,
        /// How many.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
    },
    /// Pause a schedule.
    Pause {
        /// Name of the schedule.
        name: String,
    },
    /// Let a schedule go on; ticks that passed meanwhile count as missed.
    Resume {
        /// Name of the schedule.
        name: String,
    },
    /// Run a schedule now, as if a tick had come, and print the run's id; exit code 4 when it starts none.
    Run {
        /// Name of the schedule.
        name: String,
    },
    /// Delete a schedule; its runs stay.
    Delete {
        /// Name of the schedule.
        name: String,
    },
}

/// Options of `schedule put`.
#[derive(Debug, Args)]
pub(super) struct Put {
    /// Name of the schedule.
    name: String,
    /// Cron expression: minute, hour, day of month, month, day of week; with seconds first if there are six fields.
    cron: String,
    /// The flow that it starts.
    flow: String,
    /// Time zone, by its IANA name.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// Input of its runs: JSON, or @FILE, or - for standard input; null by default.
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Version of the flow; the latest at each tick by default.
    #[arg(long)]
    version: Option<i32>,
    /// Ticks that passed while nobody looked: skip, once (one run for all of them) or all.
    #[arg(long, default_value = "skip")]
    missed: Missed,
    /// While the run of an earlier tick lives: allow another, skip the tick, or queue its run.
    #[arg(long, default_value = "allow")]
    overlap: Overlap,
    /// Start each run up to this time after its tick, at random.
    #[arg(long, value_name = "TIME")]
    jitter: Option<Span>,
    /// No tick before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = exact)]
    from: Option<DateTime<Utc>>,
    /// No tick after this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = exact)]
    to: Option<DateTime<Utc>>,
}

impl ScheduleCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let output = context.output;
        let (name, word, changed) = match self {
            Self::Put(put) => {
                let mut schedule = Schedule::new(&put.name, &put.cron, &put.flow)
                    .zone(&put.zone)
                    .missed(put.missed)
                    .overlap(put.overlap)
                    .jitter(put.jitter.map_or(Duration::ZERO, Span::as_duration));
                if let Some(input) = &put.input {
                    schedule = schedule.payload(payload(input)?);
                }
                if let Some(version) = put.version {
                    schedule = schedule.version(version);
                }
                if let Some(from) = put.from {
                    schedule = schedule.starts_at(from);
                }
                if let Some(to) = put.to {
                    schedule = schedule.ends_at(to);
                }
                if let Err(error) = client.schedule(&schedule).await {
                    return Err(suggest_flow(&client, &put.flow, error).await);
                }
                (put.name, "stored", true)
            }
            Self::List => {
                print(context, &client.schedules().await?);
                return Ok(());
            }
            Self::Next { name, count } => {
                let schedules = client.schedules().await?;
                let schedule = schedules
                    .iter()
                    .find(|s| s.name == name)
                    .ok_or_else(|| Failure::new(3, format!("there is no schedule {name}")))?;
                for tick in upcoming(schedule, Utc::now(), usize::from(count))? {
                    if output.json { output.json(&tick) } else { output.line(&time(tick)) }
                }
                return Ok(());
            }
            Self::Run { name } => {
                // Who asks for a run and is given none is not told that all is well.
                let run = client.run_schedule(&name).await?.ok_or_else(|| {
                    Failure::new(4, "no run was started: the run before still lives, or its start was refused (longhaul schedule list)")
                })?;
                if output.json {
                    output.json(&json!({ "id": run.id() }));
                } else {
                    output.line(&run.id().to_string());
                }
                return Ok(());
            }
            Self::Pause { name } => {
                let changed = client.pause_schedule(&name).await?;
                (name, "paused", changed)
            }
            Self::Resume { name } => {
                let changed = client.resume_schedule(&name).await?;
                (name, "resumed", changed)
            }
            Self::Delete { name } => {
                client.delete_schedule(&name).await?;
                (name, "deleted", true)
            }
        };
        if output.json {
            output.json(&json!({ "schedule": name, "changed": changed }));
        } else if changed {
            output.line(&format!("schedule {name} {word}."));
        } else {
            output.line(&format!("schedule {name} was {word} already."));
        }
        Ok(())
    }
}

fn print(context: &Context, schedules: &[ScheduleInfo]) {
    if context.output.json {
        for s in schedules {
            context.output.json(&json!({
                "name": s.name, "cron": s.cron, "zone": s.zone, "flow": s.flow, "version": s.version, "input": value(Some(&s.input)),
                "missed": s.missed.as_str(), "overlap": s.overlap.as_str(), "jitter_ms": s.jitter_ms, "starts_at": s.starts_at,
                "ends_at": s.ends_at, "paused_at": s.paused_at, "next_at": s.next_at, "last_at": s.last_at, "last_error": s.last_error,
                "failed_ticks": s.failed_ticks,
            }));
        }
        return;
    }
    let rows = schedules.iter().map(|s| {
        vec![
            Cell::new(&s.name),
            Cell::new(&s.cron),
            Cell::new(&s.zone),
            Cell::new(&s.flow),
            state(if s.paused_at.is_some() { "paused" } else { "active" }),
            Cell::time(s.next_at),
            Cell::time(s.last_at),
            Cell::new(s.failed_ticks),
            Cell::new(s.last_error.as_deref().unwrap_or_default()),
        ]
    });
    context.output.table(&["NAME", "CRON", "ZONE", "FLOW", "STATE", "NEXT", "LAST", "FAILED", "ERROR"], rows.collect());
}
