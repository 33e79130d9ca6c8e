//! `queue`: pausing and limiting queues.

use clap::{Args, Subcommand};
use longhaul_schema::{
    Span,
    calls::{QueueInfo, QueueLimits},
};
use serde_json::json;

use super::{
    Context, Failure,
    operate::actor,
    output::{Cell, state},
};

/// Commands below `queue`.
#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// List the queues with their limits.
    List,
    /// Pause a queue: nothing more is claimed from it; what runs is let finish.
    Pause {
        /// Name of the queue.
        queue: String,
        /// Who asks; the user of this machine by default.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Let a paused queue go on, and close its breaker.
    Resume {
        /// Name of the queue.
        queue: String,
    },
    /// Set all limits of a queue; those that are not named are taken away.
    #[command(after_help = "\
Examples:
  longhaul queue limit mail --max-running 10 --rate 100/1m
  longhaul queue limit llm --breaker 5/30s       closed for 30 s after 5 attempts in a row without an answer
  longhaul queue limit mail                      no limits")]
    Limit(Limit),
}

/// Options of `queue limit`.
#[derive(Debug, Args)]
pub(super) struct Limit {
    /// Name of the queue.
    queue: String,
    /// Most steps that run at once, over all workers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    max_running: Option<i32>,
    /// Most steps that begin in a period, as in 100/1m.
    #[arg(long, value_name = "N/TIME", value_parser = ratio)]
    rate: Option<(i32, Span)>,
    /// After so many attempts in a row that were deferred or timed out, nothing is claimed for this time.
    #[arg(long, value_name = "N/TIME", value_parser = ratio)]
    breaker: Option<(i32, Span)>,
}

fn ratio(text: &str) -> Result<(i32, Span), String> {
    let (number, span) = text.split_once('/').ok_or("write a number, a slash and a time, as in 100/1m")?;
    let number: i32 = number.trim().parse().map_err(|e| format!("{number:?}: {e}"))?;
    if number < 1 {
        return Err(format!("{number} is less than 1"));
    }
    Ok((number, span.parse().map_err(|e: longhaul_schema::Error| e.to_string())?))
}

impl Queue {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let (queue, word, changed) = match self {
            Self::List => {
                print(context, &client.queues().await?);
                return Ok(());
            }
            Self::Pause { queue, by } => {
                let changed = client.pause_queue(&queue, actor(by).as_deref()).await?;
                (queue, "paused", changed)
            }
            Self::Resume { queue } => {
                let changed = client.resume_queue(&queue).await?;
                (queue, "resumed", changed)
            }
            Self::Limit(limit) => {
                let pair = |(n, span): (i32, Span)| (n, span.as_duration());
                let limits = QueueLimits {
                    max_running: limit.max_running,
                    rate: limit.rate.map(pair),
                    breaker: limit.breaker.map(pair),
                };
                client.limit_queue(&limit.queue, &limits).await?;
                (limit.queue, "limited", true)
            }
        };
        if context.output.json {
            context.output.json(&json!({ "queue": queue, "changed": changed }));
        } else if changed {
            context.output.line(&format!("queue {queue} {word}."));
        } else {
            context.output.line(&format!("queue {queue} was so already."));
        }
        Ok(())
    }
}

fn print(context: &Context, queues: &[QueueInfo]) {
    let ratio = |pair: Option<(i32, std::time::Duration)>| {
        pair.map(|(n, time)| format!("{n}/{}", Span::from(time))).unwrap_or_default()
    };
    if context.output.json {
        for q in queues {
            context.output.json(&json!({
                "queue": q.name, "paused_at": q.paused_at, "paused_by": q.paused_by, "ready": q.ready, "running": q.running,
                "max_running": q.limits.max_running, "rate": q.limits.rate.map(|_| ratio(q.limits.rate)),
                "breaker": q.limits.breaker.map(|_| ratio(q.limits.breaker)), "open_until": q.open_until,
            }));
        }
        return;
    }
    let rows = queues.iter().map(|q| {
        vec![
            Cell::new(&q.name),
            state(if q.paused_at.is_some() { "paused" } else { "active" }),
            Cell::new(q.ready),
            Cell::new(
                q.limits.max_running.map(|most| format!("{}/{most}", q.running.unwrap_or(0))).unwrap_or_default(),
            ),
            Cell::new(ratio(q.limits.rate)),
            Cell::new(ratio(q.limits.breaker)),
            Cell::time(q.open_until),
        ]
    });
    context.output.table(&["QUEUE", "STATE", "READY", "RUNNING", "RATE", "BREAKER", "CLOSED UNTIL"], rows.collect());
}
