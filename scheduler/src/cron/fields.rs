//! Reading the fields of an expression.

use croner::{
    Cron,
    parser::{CronParser, Year},
};

use crate::Error;

/// A field: its name, its bounds, the names of its values, and the letters that may follow a value.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    letters: &'static [char],
}

const fn numbers(name: &'static str, least: u32, most: u32) -> Field {
    Field { name, least, most, names: &[], letters: &[] }
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 6] = [
    numbers("second", 0, 59),
    numbers("minute", 0, 59),
    numbers("hour", 0, 23),
    Field { letters: &['L', 'W'], ..numbers("day of month", 1, 31) },
    Field { names: MONTHS, ..numbers("month", 1, 12) },
    Field { names: DAYS, letters: &['L'], ..numbers("day of week", 0, 6) },
];

/// Longest expression.
const MOST: usize = 500;

/// An expression that has been read.
pub(super) struct Fields {
    pub(super) cron: Cron,
    /// Whether neither second nor minute nor hour has a `*` or a step.
    pub(super) fixed: bool,
}

impl Fields {
    pub(super) fn read(expression: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Invalid(format!("{expression:?} is not a cron expression, {why}"));
        if expression.len() > MOST {
            return Err(Error::Invalid(format!("a cron expression has at most {MOST} characters")));
        }
        let expression = expression.trim();
        if expression.starts_with('@') {
            let cron = parse(expression, false).map_err(|error| wrong(&format!("no known name: {error}")))?;
            return Ok(Self { cron, fixed: !expression.eq_ignore_ascii_case("@hourly") });
        }
        let fields: Vec<&str> = expression.split_whitespace().collect();
        if !(5..=6).contains(&fields.len()) {
            return Err(wrong(&format!("it has {} fields instead of 5 or 6", fields.len())));
        }
        let bounds = &FIELDS[6 - fields.len()..];
        for (number, (field, bound)) in fields.iter().zip(bounds).enumerate() {
            let place = || format!("field {} ({}) {field:?}", number + 1, bound.name);
            if let Some(why) = mistake(field, bound) {
                return Err(wrong(&format!("{}: {why}", place())));
            }
            // Each is tried alone, so that the error can name it.
            let alone: Vec<&str> = (0..fields.len()).map(|n| if n == number { *field } else { "*" }).collect();
            parse(&alone.join(" "), false).map_err(|error| {
                // The parser does not say which numbers there are.
                let range = if error.contains("out of bounds") {
                    format!("; it goes from {} to {}", bound.least, bound.most)
                } else {
                    String::new()
                };
                wrong(&format!("{}: {error}{range}", place()))
            })?;
        }
        let days = [fields[fields.len() - 3], fields[fields.len() - 1]];
        let both = days.iter().any(|field| field.starts_with(['*', '?']));
        let cron = parse(expression, both).map_err(|error| wrong(&error))?;
        Ok(Self { cron, fixed: !fields[..fields.len() - 3].iter().any(|field| field.contains(['*', '/'])) })
    }
}

fn parse(expression: &str, both_days: bool) -> Result<Cron, String> {
    let parser = CronParser::builder().year(Year::Disallowed).dom_and_dow(both_days).build();
    parser.parse(expression).map_err(|error| error.to_string())
}

/// What croner would take for something else.
fn mistake(field: &str, bound: &Field) -> Option<String> {
    for item in field.split(',') {
        if item.is_empty() {
            return Some("an item of the list is empty".into());
        }
        if item.starts_with('+') {
            return Some("it begins with +".into());
        }
        if let Some(word) = item.split(['-', '/', '#']).find(|word| !known(word, bound)) {
            return Some(format!("{word:?} is no value of it"));
        }
        let step = item.split_once('/').and_then(|(_, step)| step.parse::<u32>().ok());
        let longest = bound.most - bound.least;
        if step.is_some_and(|step| step > longest) {
            return Some(format!("a step must be at most {longest}, or it never comes to a second value"));
        }
    }
    None
}

/// Whether a word has no letters, or is a name of this field: croner replaces names wherever they stand.
fn known(word: &str, bound: &Field) -> bool {
    let word = word.to_uppercase();
    let value = word.strip_suffix(bound.letters).unwrap_or(&word);
    bound.names.contains(&value) || !value.contains(char::is_alphabetic)
}
