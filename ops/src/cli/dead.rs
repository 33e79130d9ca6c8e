//! `dead`: steps that used up their attempts.

use clap::{Args, Subcommand};
use longhaul_scheduler::Client;
use longhaul_schema::calls::DeadLetterFilter;
use serde_json::json;

use super::{
    Context, Failure,
    moment::Past,
    operate::actor,
    output::Cell,
    run_ref::RunRef,
    runs::{reason, value},
};

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Of this flow only.
    #[arg(long)]
    flow: Option<String>,
    /// Of this step only.
    #[arg(long)]
    step: Option<String>,
    /// Of this handler only.
    #[arg(long)]
    handler: Option<String>,
    /// Of this run only.
    #[arg(long)]
    run: Option<RunRef>,
    /// Whose message is like this; % stands for any text.
    #[arg(long, value_name = "PATTERN")]
    message: Option<String>,
    /// Since this time: RFC 3339, a time before now as in 2h, or a time of today as in 12:00.
    #[arg(long, value_name = "TIME")]
    since: Option<Past>,
    /// At most so many, oldest first.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..))]
    limit: i32,
}

impl Which {
    /// Whoever says nothing may not mean everything.
    fn refuse_unbounded(&self, all: bool) -> Result<(), Failure> {
        let said = self.flow.is_some()
            || self.step.is_some()
            || self.handler.is_some()
            || self.run.is_some()
            || self.message.is_some()
            || self.since.is_some();
        if said || all {
            return Ok(());
        }
        Err(Failure::usage("say which dead letters, as in --flow order, or --all"))
    }

    async fn filter(self, client: &Client) -> Result<DeadLetterFilter, Failure> {
        let now = client.database().calls().await?.present().await?;
        Ok(DeadLetterFilter {
            tenant: String::new(),
            flow: self.flow,
            step: self.step,
            handler: self.handler,
            run_id: RunRef::resolve_optional(self.run.as_ref(), client).await?,
            message: self.message,
            since: self.since.map(|past| past.before(now)),
            limit: self.limit,
        })
    }
}

/// Commands below `dead`.
#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List steps that used up their attempts, oldest first.
    List(Which),
    /// Retry their failed runs.
    #[command(after_help = "Example:\n  longhaul dead retry --flow order --message '%timed out%'")]
    Retry {
        #[command(flatten)]
        which: Which,
        /// All of them, when nothing says which.
        #[arg(long)]
        all: bool,
        /// Who asks, for the timeline; the user of this machine by default.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Take them off the list; their runs stay as they are.
    Discard {
        #[command(flatten)]
        which: Which,
        /// All of them, when nothing says which.
        #[arg(long)]
        all: bool,
        /// Who asks, for the timeline; the user of this machine by default.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

impl Dead {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let (word, count) = match self {
            Self::List(which) => {
                let dead = client.dead_letters(&which.filter(&client).await?).await?;
                if context.output.json {
                    for d in dead {
                        context.output.json(&json!({
                            "run": d.run_id, "flow": d.flow, "version": d.version, "step": d.step, "handler": d.handler,
                            "died_at": d.died_at, "attempt": d.attempt, "error": value(d.error.as_ref()), "run_state": d.run_state,
                        }));
                    }
                    return Ok(());
                }
                let rows = dead.iter().map(|d| {
                    vec![
                        Cell::id(d.run_id),
                        Cell::new(format!("{} v{}", d.flow, d.version)),
                        Cell::new(&d.step),
                        Cell::time(d.died_at),
                        Cell::new(d.error.as_ref().map(reason).unwrap_or_default()),
                    ]
                });
                context.output.table(&["RUN", "FLOW", "STEP", "DIED", "ERROR"], rows.collect());
                return Ok(());
            }
            Self::Retry { which, all, by } => {
                which.refuse_unbounded(all)?;
                ("retried", client.retry_dead_letters(&which.filter(&client).await?, actor(by).as_deref()).await?)
            }
            Self::Discard { which, all, by } => {
                which.refuse_unbounded(all)?;
                ("discarded", client.discard_dead_letters(&which.filter(&client).await?, actor(by).as_deref()).await?)
            }
        };
        if context.output.json {
            context.output.json(&json!({ word: count }));
        } else {
            context.output.line(&format!("{count} {word}."));
        }
        Ok(())
    }
}
