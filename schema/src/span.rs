//! Durations as people write them in flow files: `90s`, `1h 30m`, `2 days`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// A length of time in whole milliseconds, at most 10,000 days. Written as a number and a unit: `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const MAX_MS: u64 = 10_000 * 86_400_000;

impl Span {
    /// As a standard duration.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    /// Fractions of a millisecond are dropped; more than the largest span becomes the largest span.
    fn from(duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(MAX_MS).min(MAX_MS);
        Self(Duration::from_millis(ms))
    }
}

impl fmt::Display for Span {
    /// The largest unit in which the span is a whole number; this is how the database reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis() as u64;
        let (unit, size) =
            UNITS.iter().find(|(_, size)| ms.is_multiple_of(*size)).expect("every number is a multiple of 1");
        write!(f, "{}{unit}", ms / size)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let problem =
            |why: &str| Error::Invalid(format!("{text:?} is not a duration ({why}); write it as 90s, 1h 30m or 2d"));
        let duration = humantime::parse_duration(text.trim()).map_err(|e| problem(&e.to_string()))?;
        if duration.subsec_nanos() % 1_000_000 != 0 {
            return Err(problem("it is finer than a millisecond"));
        }
        if duration.as_millis() > u128::from(MAX_MS) {
            return Err(problem("it is longer than 10000 days"));
        }
        Ok(Self(duration))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time: numbers with units (ms, s, m, h, d), at most 10000 days.",
            "pattern": "^\\s*\\d+\\s*[a-z]+(\\s*\\d+\\s*[a-z]+)*\\s*$",
            "examples": ["500ms", "90s", "1h 30m", "7d"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (text, canonical) in
            [("90s", "90s"), ("1h 30m", "90m"), ("2 days", "2d"), ("1500ms", "1500ms"), ("60s", "1m"), ("0s", "0d")]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), canonical);
            assert_eq!(canonical.parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "soon", "5", "-1s", "1us", "99999999d", "1s\u{0}"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
