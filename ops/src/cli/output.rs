//! Tables for people, JSON for scripts.

use std::{fmt::Display, io::IsTerminal};

use chrono::{DateTime, Datelike, Local, Utc};
use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;
use uuid::Uuid;

use super::terminal::{safe, safe_json, write_output};

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a line; line breaks in it are shown as escapes.
    pub(super) fn line(self, text: &str) {
        write_output(&safe(text));
    }

    /// Prints a text of several lines that this program made.
    pub(super) fn text(self, text: &str) {
        for line in text.lines() {
            self.line(line);
        }
    }

    /// One JSON value on one line.
    pub(super) fn json(self, value: &impl Serialize) {
        self.json_text(&serde_json::to_string(value).unwrap_or_else(|e| format!("\"unprintable: {e}\"")));
    }

    /// JSON that is a text already, on one line or several.
    pub(super) fn json_text(self, text: &str) {
        for line in text.lines() {
            write_output(&safe_json(line));
        }
    }

    /// A table; columns are only as wide as the terminal allows, but ids and times are never broken.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<Cell>>) {
        let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
        for line in layout(header, rows, plain).lines() {
            write_output(line.trim_end());
        }
    }
}

fn layout(header: &[&str], rows: Vec<Vec<Cell>>, plain: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if plain {
        table.force_no_tty();
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.iter().map(|name| comfy_table::Cell::new(name).add_attribute(Attribute::Dim)));
    let is_whole = |at: usize| rows.iter().any(|row| row.get(at).is_some_and(|cell| cell.whole));
    let whole: Vec<usize> = (0..header.len()).filter(|at| is_whole(*at)).collect();
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| cell.inner).collect::<Vec<_>>()));
    for at in whole {
        if let Some(column) = table.column_mut(at) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

/// A cell of a table. It can only hold what was made safe for terminals.
pub(super) struct Cell {
    inner: comfy_table::Cell,
    whole: bool,
}

impl Cell {
    pub(super) fn new(content: impl Display) -> Self {
        Self { inner: comfy_table::Cell::new(safe(&content.to_string())), whole: false }
    }

    /// An id: it is never broken, so that it can be copied.
    pub(super) fn id(id: Uuid) -> Self {
        Self { whole: true, ..Self::new(id) }
    }

    /// A time, which is never broken, or nothing.
    pub(super) fn time(time: impl Into<Option<DateTime<Utc>>>) -> Self {
        Self { whole: true, ..Self::new(optional_time(time.into())) }
    }

    /// In this colour.
    pub(super) fn fg(self, colour: Color) -> Self {
        Self { inner: self.inner.fg(colour), whole: self.whole }
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

/// A time in the machine's own zone, with the zone: `Z`, or as in `+01:00`.
pub(super) fn time(time: DateTime<Utc>) -> String {
    // At the ends of what can be counted an offset would lead beyond them.
    if !(-200_000..200_000).contains(&time.year()) {
        return time.format("%Y-%m-%d %H:%M:%SZ").to_string();
    }
    let local = time.with_timezone(&Local);
    let zone = if local.offset().local_minus_utc() == 0 { "Z".into() } else { local.format("%:z").to_string() };
    format!("{}{zone}", local.format("%Y-%m-%d %H:%M:%S"))
}

/// A time that may be missing.
pub(super) fn optional_time(value: Option<DateTime<Utc>>) -> String {
    value.map(time).unwrap_or_default()
}

/// How long something took, or has taken until now, in the two largest units that matter.
pub(super) fn length(from: DateTime<Utc>, to: Option<DateTime<Utc>>) -> String {
    let seconds = (to.unwrap_or_else(Utc::now) - from).num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_be_copied_from_a_narrow_terminal() {
        let id = Uuid::now_v7();
        let row =
            || vec![Cell::id(id), Cell::new("a flow with a name"), Cell::time(Utc::now()), Cell::new("x ".repeat(90))];
        let mut table = layout(&["RUN", "FLOW", "STARTED", "NAME"], vec![row(), row()], false);
        table.set_width(80);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.contains(&id.to_string())).count(), 2, "{lines:?}");
        assert!(lines.len() > 3, "other columns are broken instead: {lines:?}");
    }

    #[test]
    fn any_time_can_be_shown() {
        for extreme in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!(time(extreme).ends_with('Z'));
            length(extreme, None);
            length(Utc::now(), Some(extreme));
        }
    }

    #[test]
    fn lengths_name_the_units_that_matter() {
        let from = Utc::now();
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (7260, "2h 1m"), (90_000, "1d 1h"), (-5, "0s")] {
            assert_eq!(length(from, Some(from + chrono::Duration::seconds(seconds))), text);
        }
    }
}
