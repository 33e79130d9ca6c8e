//! Figures beside their targets.

use comfy_table::{Table, presets};
use serde::Serialize;

/// Which side of a target is good.
#[derive(Clone, Copy, Debug, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The target that it belongs to, as P5.
    pub id: &'static str,
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    pub target: Option<Target>,
}

impl Row {
    pub fn new(id: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { id, what: what.into(), value, unit, target: None }
    }

    pub fn at_least(self, target: f64) -> Self {
        Self { target: Some(Target::AtLeast(target)), ..self }
    }

    pub fn at_most(self, target: f64) -> Self {
        Self { target: Some(Target::AtMost(target)), ..self }
    }

    pub fn met(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtLeast(least) => self.value >= least,
            Target::AtMost(most) => self.value <= most,
        })
    }
}

/// All figures of a session.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub settings: String,
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds the figures of a measure, and prints them at once: the next one may take long.
    pub fn add(&mut self, rows: Vec<Row>) {
        for row in rows {
            let met = row.met().map_or("", |met| if met { "  met" } else { "  MISSED" });
            println!("{:<3} {:<58} {:>12} {}{met}", row.id, row.what, short(row.value), row.unit);
            self.rows.push(row);
        }
    }

    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header(["", "measure", "figure", "target", ""]);
        for row in &self.rows {
            let target = match row.target {
                Some(Target::AtLeast(least)) => format!("≥ {}", short(least)),
                Some(Target::AtMost(most)) => format!("≤ {}", short(most)),
                None => String::new(),
            };
            let met = row.met().map_or("", |met| if met { "met" } else { "missed" });
            let figure = format!("{} {}", short(row.value), row.unit);
            table.add_row([row.id, &row.what, &figure, &target, met]);
        }
        println!("\n{}\n{table}", self.settings);
    }
}

/// Three significant digits, thousands apart.
fn short(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
        format!("{sign}{}", groups.join(","))
    } else if value == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_groups() {
        for (value, text) in [(0.0, "0"), (0.0123, "0.0123"), (1.5, "1.50"), (99.94, "99.9"), (1234567.8, "1,234,568")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_target_has_a_good_side() {
        assert_eq!(Row::new("P1", "", 2.0, "").at_least(1.5).met(), Some(true));
        assert_eq!(Row::new("P1", "", 2.0, "").at_most(1.5).met(), Some(false));
        assert_eq!(Row::new("P1", "", 2.0, "").met(), None);
    }
}
