//! Which runs: the options of `list`, and of all that is done to many runs.

use clap::Args;
use longhaul_scheduler::Client;
use longhaul_schema::calls::{RunFilter, RunState};

use super::{Failure, moment::Past, operate::payload, run_ref::RunRef};

/// Options that say which runs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which runs")]
pub(super) struct FilterArguments {
    /// Runs of this flow only.
    #[arg(long)]
    pub(super) flow: Option<String>,
    /// Runs of this version of the flow only.
    #[arg(long)]
    version: Option<i32>,
    /// Runs in this state only: pending, running, paused, completed, failed or cancelled.
    #[arg(long)]
    pub(super) state: Option<RunState>,
    /// Runs of this name only; % stands for any text.
    #[arg(long)]
    name: Option<String>,
    /// Runs whose metadata contains this only.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Runs created since this time only: RFC 3339, a time before now as in 2h, or a time of today as in 12:00.
    #[arg(long, value_name = "TIME")]
    since: Option<Past>,
    /// Runs created before this time only: RFC 3339, a time before now as in 2h, or a time of today as in 12:00.
    #[arg(long, value_name = "TIME")]
    until: Option<Past>,
    /// Children of this run only.
    #[arg(long, value_name = "RUN")]
    parent: Option<RunRef>,
    /// Dismissed runs as well.
    #[arg(long)]
    pub(super) dismissed: bool,
}

impl FilterArguments {
    /// Whether anything was said.
    pub(super) fn says_something(&self) -> bool {
        self.flow.is_some()
            || self.version.is_some()
            || self.state.is_some()
            || self.name.is_some()
            || self.metadata.is_some()
            || self.since.is_some()
            || self.until.is_some()
            || self.parent.is_some()
    }

    /// The filter.
    pub(super) async fn filter(&self, client: &Client) -> Result<RunFilter, Failure> {
        let now = match (self.since, self.until) {
            (None, None) => None,
            _ => Some(client.database().calls().await?.present().await?),
        };
        let time = |past: Option<Past>| past.zip(now).map(|(past, now)| past.before(now));
        Ok(RunFilter {
            tenant: client.database().tenant().into(),
            flow: self.flow.clone(),
            version: self.version,
            state: self.state,
            name: self.name.clone(),
            metadata: self.metadata.as_deref().map(payload).transpose()?,
            since: time(self.since),
            until: time(self.until),
            parent: RunRef::resolve_optional(self.parent.as_ref(), client).await?,
            dismissed: self.dismissed,
            ..RunFilter::default()
        })
    }
}
