//! Tables for people, JSON for scripts.

use std::io::{IsTerminal, Write};

use chrono::{DateTime, Local, Utc};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a line, or nothing more once the reader has closed the pipe.
    pub(super) fn line(self, text: &str) {
        if writeln!(std::io::stdout(), "{text}").is_err() {
            std::process::exit(0);
        }
    }

    /// One JSON value on one line.
    pub(super) fn json(self, value: &impl Serialize) {
        self.line(&serde_json::to_string(value).unwrap_or_else(|e| format!("\"unprintable: {e}\"")));
    }

    /// A table; columns are only as wide as the terminal allows.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<Cell>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal() {
            table.force_no_tty();
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
        table.add_rows(rows);
        for line in table.lines() {
            self.line(line.trim_end());
        }
    }
}

/// A state, in its colour.
pub(super) fn state(word: &str) -> Cell {
    let colour = match word {
        "completed" | "active" => Color::Green,
        "failed" | "lost" | "expired" | "panicked" | "timed_out" => Color::Red,
        "running" => Color::Cyan,
        "waiting" | "paused" | "pending" | "draining" | "released" | "snoozed" => Color::Yellow,
        _ => Color::Reset,
    };
    Cell::new(word).fg(colour)
}

/// A time in the machine's own zone.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time that may be missing.
pub(super) fn optional_time(value: Option<DateTime<Utc>>) -> String {
    value.map(time).unwrap_or_default()
}
