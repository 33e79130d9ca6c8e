//! Tables for people, JSON for scripts.

use std::{fmt::Display, io::IsTerminal};

use chrono::{DateTime, Datelike, Local, Utc};
use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;
use uuid::Uuid;

use super::{
    run_ref::{short, with_short_ids},
    terminal::{safe, safe_json, write_output},
};

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

    /// A table. On a terminal columns are as wide as that allows, but ids, numbers and times are never broken: in a narrow one they are
    /// written shorter. Elsewhere everything is written in full, a row a line.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<Cell>>) {
        let width = std::io::stdout().is_terminal().then(|| terminal_width().unwrap_or(WIDE));
        let colours = width.is_some() && std::env::var_os("NO_COLOR").is_none();
        for line in layout(header, rows, width, colours).lines() {
            write_output(line.trim_end());
        }
    }
}

/// From this width on ids and times are written in full.
const WIDE: u16 = 120;

fn terminal_width() -> Option<u16> {
    ratatui::crossterm::terminal::size().ok().map(|(width, _)| width).filter(|width| *width > 0)
}

/// A table for a terminal of this width, or for no terminal.
fn layout(header: &[&str], rows: Vec<Vec<Cell>>, width: Option<u16>, colours: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !colours {
        table.force_no_tty();
    }
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let narrow = width.is_some_and(|width| width < WIDE);
    table.set_header(header.iter().map(|name| comfy_table::Cell::new(name).add_attribute(Attribute::Dim)));
    let is_whole = |at: usize| rows.iter().any(|row| row.get(at).is_some_and(|cell| cell.whole));
    let whole: Vec<usize> = (0..header.len()).filter(|at| is_whole(*at)).collect();
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| cell.laid_out(narrow)).collect::<Vec<_>>()));
    for (at, name) in header.iter().enumerate() {
        let Some(column) = table.column_mut(at) else { continue };
        // Names of columns are not broken either; each has a space before and behind it.
        let least = u16::try_from(name.len() + 2).unwrap_or(u16::MAX);
        column.set_constraint(match whole.contains(&at) {
            true => ColumnConstraint::ContentWidth,
            false => ColumnConstraint::LowerBoundary(Width::Fixed(least)),
        });
    }
    table
}

/// A cell of a table. It can only hold what was made safe for terminals.
pub(super) struct Cell {
    content: String,
    /// How a narrow terminal shows it.
    short: Option<String>,
    colour: Option<Color>,
    whole: bool,
}

impl Cell {
    pub(super) fn new(content: impl Display) -> Self {
        let content = safe(&content.to_string()).into_owned();
        Self { short: with_short_ids(&content), content, colour: None, whole: false }
    }

    /// Something short that is never broken: a number, a length of time.
    pub(super) fn whole(content: impl Display) -> Self {
        Self { whole: true, ..Self::new(content) }
    }

    /// An id: it is never broken, so that it can be copied. What a narrow terminal shows of it is understood by all commands.
    pub(super) fn id(id: Uuid) -> Self {
        Self { short: Some(short(id)), ..Self::whole(id) }
    }

    /// A time, which is never broken, or nothing.
    pub(super) fn time(time: impl Into<Option<DateTime<Utc>>>) -> Self {
        let time = time.into();
        Self { short: time.map(short_time), ..Self::whole(optional_time(time)) }
    }

    /// In this colour.
    pub(super) fn fg(self, colour: Color) -> Self {
        Self { colour: Some(colour), ..self }
    }

    fn laid_out(self, narrow: bool) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(self.short.filter(|_| narrow).unwrap_or(self.content));
        match self.colour {
            Some(colour) => cell.fg(colour),
            None => cell,
        }
    }
}

/// A state, in its colour.
pub(super) fn state(word: &str) -> Cell {
    let colour = match word {
        "completed" | "active" => Color::Green,
        "failed" | "lost" | "overdue" | "expired" | "panicked" | "timed_out" => Color::Red,
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

/// A time for a narrow column: of today by the clock, otherwise with its day.
fn short_time(time: DateTime<Utc>) -> String {
    if !(-200_000..200_000).contains(&time.year()) {
        return time.format("%Y-%m-%d").to_string();
    }
    let local = time.with_timezone(&Local);
    let days = (Local::now().date_naive() - local.date_naive()).num_days().abs();
    local
        .format(if days == 0 {
            "%H:%M:%S"
        } else if days < 300 {
            "%m-%d %H:%M"
        } else {
            "%Y-%m-%d"
        })
        .to_string()
}

/// A number of things: `1 run`, `2 runs`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A time that may be missing.
pub(super) fn optional_time(value: Option<DateTime<Utc>>) -> String {
    value.map(time).unwrap_or_default()
}

/// How long something took, in the two largest units that matter. What has not ended has taken until the database's present moment.
pub(super) fn length(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let seconds = (to - from).num_seconds().max(0);
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
    fn tables_fit_and_no_id_is_broken() {
        let id = Uuid::now_v7();
        let row =
            || vec![Cell::id(id), Cell::new("a flow with a name"), Cell::time(Utc::now()), Cell::new("x ".repeat(90))];
        for (width, shown) in [(80, short(id)), (100, short(id)), (120, id.to_string()), (200, id.to_string())] {
            let table = layout(&["RUN", "FLOW", "STARTED", "NAME"], vec![row(), row()], Some(width), false);
            let lines: Vec<String> = table.lines().collect();
            assert_eq!(lines.iter().filter(|line| line.contains(&shown)).count(), 2, "{width}: {lines:?}");
            assert!(
                lines.iter().all(|line| line.trim_end().chars().count() <= usize::from(width)),
                "{width}: {lines:?}"
            );
        }
        let table = layout(&["RUN", "FLOW", "STARTED", "NAME"], vec![row()], None, false);
        assert_eq!(table.lines().count(), 2, "a row a line where no terminal is");
        assert!(table.lines().any(|line| line.contains(&id.to_string())));
    }

    #[test]
    fn any_time_can_be_shown() {
        for extreme in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!(time(extreme).ends_with('Z'));
            short_time(extreme);
            length(extreme, Utc::now());
            length(Utc::now(), extreme);
        }
    }

    #[test]
    fn lengths_name_the_units_that_matter() {
        let from = Utc::now();
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (7260, "2h 1m"), (90_000, "1d 1h"), (-5, "0s")] {
            assert_eq!(length(from, from + chrono::Duration::seconds(seconds)), text);
        }
        assert_eq!((plural(0, "run"), plural(1, "run")), ("0 runs".into(), "1 run".into()));
    }
}
