//! Times and ids as people write them on a command line.

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

/// A time: RFC 3339, a length of time before now as in `2h`, or a time of today as in `12:00`.
pub(super) fn past(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Ok(span) = text.parse::<Span>() {
        return Ok(Utc::now() - span.as_duration());
    }
    let clock = ["%H:%M", "%H:%M:%S"].into_iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
    clock
        .and_then(|clock| Local::now().date_naive().and_time(clock).and_local_timezone(Local).earliest())
        .map(|time| time.to_utc())
        .ok_or_else(|| {
            "write a time as 2026-12-24T18:00:00Z, a time before now as 2h, or a time of today as 12:00".to_owned()
        })
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
        assert_eq!(past("2026-12-24T18:00:00+01:00").unwrap().to_rfc3339(), "2026-12-24T17:00:00+00:00");
        let then = past("2h").unwrap();
        let ago = Utc::now() - then;
        assert!(ago >= chrono::Duration::hours(2) && ago < chrono::Duration::hours(3));
        assert!(past("12:00").is_ok() && past("23:59:59").is_ok());
        for wrong in ["", "yesterday", "2026-12-24", "25:00"] {
            assert!(past(wrong).unwrap_err().contains("write a time"), "{wrong}");
        }
    }
}
