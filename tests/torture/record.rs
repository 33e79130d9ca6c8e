//! What handlers did, in files outside the database: one line of JSON each, appended by one write, so that no crash loses it.

use std::{fs::File, io::Write, path::Path};

use longhaul::StepContext;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock;

/// What a handler did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// It began an attempt.
    Begin,
    /// It is about to return its output.
    End,
    /// It computes what is to be saved in this place.
    Compute { place: String },
    /// It goes on with this value of a place.
    Goes { place: String, value: String },
    /// It was given a lock that it had asked for at this time.
    Acquired { lock: String, token: i64, asked: u128 },
    /// It is about to give the lock back.
    Released { lock: String, token: i64 },
    /// It said how far it is.
    Progress { done: u64 },
}

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub deed: Deed,
    pub run: Uuid,
    pub seq: i32,
    pub token: i32,
    /// By [`clock::machine_nanos`].
    pub at: u128,
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct Recorder(File);

impl Recorder {
    pub fn open(file: &Path) -> std::io::Result<Self> {
        Ok(Self(File::options().create(true).append(true).open(file)?))
    }

    pub fn write(&self, ctx: &StepContext, deed: Deed) -> std::io::Result<()> {
        let line =
            Line { deed, run: ctx.run_id(), seq: seq_of(ctx), token: ctx.fencing_token(), at: clock::machine_nanos() };
        (&self.0).write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes())
    }
}

/// The step's number in its run.
pub fn seq_of(ctx: &StepContext) -> i32 {
    ctx.idempotency_key().rsplit('/').next().and_then(|seq| seq.parse().ok()).unwrap_or(-1)
}

/// All lines of all files in a folder, in the order of their times.
pub fn read_all(folder: &Path) -> std::io::Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        // A process may have been killed within its last line.
        lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}
