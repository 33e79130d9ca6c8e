//! What handlers did, in files outside the database: one line each, appended by one write, so that no crash loses it.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A handler began an attempt.
    Begin,
    /// It is about to return its output.
    End,
}

/// A line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub what: What,
    pub run: Uuid,
    pub seq: i32,
    pub token: i32,
    /// Nanoseconds since 1970, by the machine's clock, which all processes share.
    pub at: u128,
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct Recorder(File);

impl Recorder {
    pub fn open(file: &Path) -> std::io::Result<Self> {
        Ok(Self(File::options().create(true).append(true).open(file)?))
    }

    pub fn write(&self, what: What, run: Uuid, seq: i32, token: i32) -> std::io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let word = if what == What::Begin { "begin" } else { "end" };
        (&self.0).write_all(format!("{word} {run} {seq} {token} {at}\n").as_bytes())
    }
}

/// All lines of all files in a folder.
pub fn read_all(folder: &Path) -> std::io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        // A process may have been killed within its last line.
        lines.extend(text.lines().filter_map(parse));
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

fn parse(text: &str) -> Option<Line> {
    let words: Vec<&str> = text.split(' ').collect();
    let [what, run, seq, token, at] = words[..] else { return None };
    let what = match what {
        "begin" => What::Begin,
        "end" => What::End,
        _ => return None,
    };
    Some(Line {
        what,
        run: run.parse().ok()?,
        seq: seq.parse().ok()?,
        token: token.parse().ok()?,
        at: at.parse().ok()?,
    })
}
