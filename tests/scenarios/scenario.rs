//! A scenario is data: flows, and acts in their order. It holds no chance: what a seed has made can be kept as a file, cut down and
//! done again.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Flows and what is done with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// What it is there to show.
    #[serde(default)]
    pub note: String,
    /// Definitions as they are deployed. What a handler does stands in its `with`.
    pub flows: Vec<Value>,
    pub acts: Vec<Act>,
}

/// One act. `by` is the connection of a caller; runs are numbered by the scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Act {
    /// A caller opens a transaction, and keeps it.
    Open {
        by: usize,
        isolation: Isolation,
    },
    Commit {
        by: usize,
    },
    Rollback {
        by: usize,
    },
    /// Starts a run, with a delay (or, below 0, a start in the past).
    Start {
        by: usize,
        run: usize,
        flow: String,
        input: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay_ms: Option<i64>,
    },
    /// Starts many in one call.
    Bulk {
        by: usize,
        flow: String,
        inputs: Vec<Value>,
    },
    Create {
        by: usize,
        run: usize,
        flow: String,
        input: Value,
    },
    Begin {
        by: usize,
        run: usize,
    },
    StartUnique {
        by: usize,
        run: usize,
        flow: String,
        input: Value,
        key: String,
        window_s: Option<i64>,
    },
    Signal {
        by: usize,
        run: usize,
        topic: String,
    },
    Send {
        by: usize,
        topic: String,
        key: String,
    },
    External {
        by: usize,
        topic: String,
        key: String,
        failed: bool,
        keep_s: Option<i64>,
    },
    Broadcast {
        by: usize,
        topic: String,
    },
    Stop {
        by: usize,
        run: usize,
    },
    Pause {
        by: usize,
        run: usize,
    },
    Resume {
        by: usize,
        run: usize,
    },
    Retry {
        by: usize,
        run: usize,
    },
    RetryDead {
        by: usize,
    },
    Annotate {
        by: usize,
        run: usize,
    },
    Decide {
        by: usize,
        run: usize,
        step: String,
        choice: String,
    },
    /// Forks from a step on; under an id that another run has, if that is named, or one of no time.
    Fork {
        by: usize,
        run: usize,
        step: String,
        into: Into,
    },
    /// The worker takes up to so many steps of each queue; in an open transaction, if asked, as a worker written in SQL may.
    Claim {
        most: usize,
        open: bool,
        /// The queues in the other order.
        #[serde(default)]
        reversed: bool,
    },
    /// The worker ends so many of the attempts that it holds, in one call for each way to end.
    Finish {
        from: usize,
        count: usize,
    },
    /// The worker's heartbeat stops, and another one takes over.
    Die,
    /// The worker sends something that makes no sense.
    Garble {
        what: usize,
    },
    /// A scheduler does all that is due.
    Chores,
    /// The clock jumps, forwards or back.
    Clock {
        ms: i64,
    },
    /// Ended runs are deleted at once.
    Policy {
        state: Option<String>,
    },
    Setting {
        name: String,
        value: i64,
    },
    Schedule {
        name: String,
        flow: String,
        input: Value,
        overlap: String,
    },
    /// A tick of a schedule comes.
    Tick {
        name: String,
    },
    Lock {
        name: String,
    },
    /// So many steps of a queue run at once.
    Limit {
        queue: String,
        most: u32,
    },
    /// All at the same time, each on a connection of its own.
    Together {
        acts: Vec<Act>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// The id of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Into {
    New,
    /// That of this run.
    Run(usize),
    /// One that carries no time.
    Random,
    /// One of a clock that is weeks ahead.
    Ahead,
}

impl Scenario {
    /// Reads a scenario from a file.
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    }

    /// As a file: a line for each flow and each act.
    pub fn text(&self) -> String {
        let lines = |items: Vec<String>| items.iter().map(|i| format!("  {i}")).collect::<Vec<_>>().join(",\n");
        let json = |value: &Value| value.to_string();
        let act = |act: &Act| serde_json::to_string(act).expect("an act is JSON");
        format!(
            "{{\"note\": {},\n \"flows\": [\n{}\n ],\n \"acts\": [\n{}\n ]}}\n",
            json(&Value::from(self.note.as_str())),
            lines(self.flows.iter().map(json).collect()),
            lines(self.acts.iter().map(act).collect()),
        )
    }

    /// The definition of a flow.
    pub fn flow(&self, name: &str) -> Option<&Value> {
        self.flows.iter().find(|flow| flow["name"] == name)
    }
}
