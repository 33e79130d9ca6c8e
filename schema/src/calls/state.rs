//! States of runs and steps: one mapping for database, Rust, CLI and JSON.

use std::str::FromStr;

use serde::Serialize;

use crate::{Error, Result};

/// Defines an enum of states with their one spelling, used by database, CLI and JSON alike.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All states.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    other => {
                        let known: Vec<_> = Self::ALL.iter().map(|s| s.as_str()).collect();
                        Err(Error::Invalid(format!(concat!("{:?} is not a state of a ", $what, "; there are {}"), other, known.join(", "))))
                    }
                }
            }
        }
    };
}

states! {
    /// States of a run. Completed, failed and cancelled are final.
    RunState, "run" {
        /// Its delayed start has not come yet.
        Pending = "pending",
        /// It has live steps.
        Running = "running",
        /// Its steps are kept back.
        Paused = "paused",
        /// All its steps are done.
        Completed = "completed",
        /// A step failed for good.
        Failed = "failed",
        /// It was stopped.
        Cancelled = "cancelled",
    }
}

states! {
    /// States of a step. Completed, failed, cancelled and skipped are final.
    StepState, "step" {
        /// Predecessors are unfinished.
        Blocked = "blocked",
        /// It may be claimed.
        Ready = "ready",
        /// A worker owns it.
        Running = "running",
        /// It sleeps or waits.
        Waiting = "waiting",
        /// Its run is paused.
        Paused = "paused",
        /// Done.
        Completed = "completed",
        /// Its last attempt failed.
        Failed = "failed",
        /// Its run ended before it was done.
        Cancelled = "cancelled",
        /// Its condition did not hold.
        Skipped = "skipped",
    }
}

impl RunState {
    /// The states of a run that has not ended.
    pub const LIVE: &[Self] = &[Self::Pending, Self::Running, Self::Paused];

    /// The states of a run that has ended.
    pub const FINAL: &[Self] = &[Self::Completed, Self::Failed, Self::Cancelled];

    /// No transition leads out of it.
    pub fn is_final(self) -> bool {
        Self::FINAL.contains(&self)
    }
}
