//! Times and ids as people write them on a command line.

use std::str::FromStr;

use chrono::{DateTime, Local, NaiveTime, Utc};
use longhaul_schema::Span;
use uuid::Uuid;

/// Exactly this time: RFC 3339, with its offset.
pub(super) fn exact(text: &str) -> Result<DateTime<Utc>, String> {
    let how = "write a date, a time and its zone, as in 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z";
    text.parse().map_err(|_| how.to_owned())
}

/// The id of a run, or of a batch of them.
pub(super) fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "an id is a UUID, as `longhaul start` and `longhaul list` print it".to_owned())
}

/// A time that may be said from now on backwards. Now is the database's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Past {
    At(DateTime<Utc>),
    Ago(Span),
    Today(NaiveTime),
}

impl Past {
    /// The time, when this is the present moment.
    pub(super) fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now - span.as_duration(),
            Self::Today(clock) => {
                let today = now.with_timezone(&Local).date_naive();
                today.and_time(clock).and_local_timezone(Local).earliest().map_or(now, |time| time.to_utc())
            }
        }
    }
}

impl FromStr for Past {
    type Err = String;

    /// RFC 3339, a length of time before now as in `2h`, or a time of today as in `12:00`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.to_utc()));
        }
        if let Ok(span) = text.parse() {
            return Ok(Self::Ago(span));
        }
        let clock = ["%H:%M", "%H:%M:%S"].into_iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
        clock.map(Self::Today).ok_or_else(|| {
            "write a time as 2026-12-24T18:00:00Z, a time before now as 2h, or a time of today as 12:00".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_exact_time_and_no_id_is_told_how_to_write_it() {
        assert_eq!(exact("2026-12-24T18:00:00+01:00").unwrap().to_rfc3339(), "2026-12-24T17:00:00+00:00");
        for wrong in ["", "tomorrow", "2026-12-24", "2026-12-24T18:00", "18:00", "2h"] {
            assert!(exact(wrong).unwrap_err().contains("2026-12-24T18:00:00+01:00"), "{wrong}");
        }
        let id_text = Uuid::now_v7().to_string();
        assert_eq!(id(&id_text).unwrap().to_string(), id_text);
        for wrong in ["", "123", "order", "RUN", &id_text[1..]] {
            assert!(id(wrong).unwrap_err().contains("longhaul list"), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_in_three_forms() {
        let now: DateTime<Utc> = "2026-12-24T18:00:00Z".parse().unwrap();
        let read = |text: &str| text.parse::<Past>().map(|past| past.before(now));
        assert_eq!(read("2026-12-24T18:00:00+01:00").unwrap().to_rfc3339(), "2026-12-24T17:00:00+00:00");
        assert_eq!(now - read("2h").unwrap(), chrono::Duration::hours(2));
        assert!(read("12:00").is_ok() && read("23:59:59").is_ok());
        for wrong in ["", "yesterday", "2026-12-24", "25:00"] {
            assert!(read(wrong).unwrap_err().contains("write a time"), "{wrong}");
        }
    }
}
