//! `lock`: looking at locks, and forcing them open.

use clap::Subcommand;
use serde_json::json;

use super::{
    Context, Failure,
    operate::actor,
    output::{Cell, state},
};

/// Commands below `lock`.
#[derive(Debug, Subcommand)]
pub(super) enum LockCommand {
    /// List the locks that are held.
    List {
        /// Free ones as well.
        #[arg(long)]
        all: bool,
    },
    /// Take a lock from its holder. This is recorded.
    Release {
        /// Name of the lock.
        name: String,
        /// Who asks; the user of this machine by default.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

impl LockCommand {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        match self {
            Self::List { all } => {
                let locks = client.locks(!all).await?;
                if context.output.json {
                    for l in locks {
                        context.output.json(&json!({
                            "name": l.name, "held": l.held, "holder": l.holder, "token": l.token, "acquired_at": l.acquired_at,
                            "expires_at": l.expires_at, "acquired": l.acquired, "blocked": l.blocked, "expired": l.expired,
                        }));
                    }
                    return Ok(());
                }
                let rows = locks.iter().map(|l| {
                    vec![
                        Cell::new(&l.name),
                        state(if l.held { "running" } else { "free" }),
                        Cell::new(l.holder.as_deref().unwrap_or_default()),
                        Cell::time(l.acquired_at),
                        Cell::time(l.expires_at),
                        Cell::new(l.acquired),
                        Cell::new(l.blocked),
                        Cell::new(l.expired),
                    ]
                });
                let header = ["LOCK", "STATE", "HOLDER", "SINCE", "UNTIL", "ACQUIRED", "BLOCKED", "EXPIRED"];
                context.output.table(&header, rows.collect());
            }
            Self::Release { name, by } => {
                let released = client.force_release_lock(&name, actor(by).as_deref()).await?;
                if context.output.json {
                    context.output.json(&json!({ "released": released }));
                } else {
                    context.output.line(if released { "released." } else { "nobody held it." });
                }
            }
        }
        Ok(())
    }
}
