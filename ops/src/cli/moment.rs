//! Times as people write them on a command line.

use chrono::{DateTime, Local, NaiveTime, Utc};
use longhaul_schema::Span;

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
