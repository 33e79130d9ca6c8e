//! Cron expressions with time zones.
//!
//! Five fields (minute, hour, day of month, month, day of week) or six with seconds first; names (`MON`, `JAN`), lists, ranges,
//! steps, `L`, `W`, `#`, and `@daily` and its relatives. Read by the crate croner; zones are IANA names by chrono-tz.
//!
//! At changes of daylight-saving time: a job at a fixed time runs once a day, at the first moment after the gap when its time is
//! left out, and at the first of the two when its time comes twice. A job at intervals runs at every interval that really
//! passes. (The rules of Vixie cron 4.)

use chrono::{DateTime, Duration, FixedOffset, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use croner::{Cron, JobType};

use crate::Error;

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct CronExpression {
    cron: Cron,
    zone: Tz,
}

const FIELDS: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];

impl CronExpression {
    /// Reads an expression and a zone. Fails with the field that is wrong, by its number and name.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, Error> {
        let zone: Tz = zone.parse().map_err(|_| {
            Error::Invalid(format!("{zone:?} is not a time zone; write an IANA name, as in Europe/Berlin or UTC"))
        })?;
        let cron = expression.trim().parse::<Cron>().map_err(|error| {
            let place = wrong_field(expression).map(|place| format!(", {place}")).unwrap_or_default();
            Error::Invalid(format!("{expression:?} is not a cron expression{place}: {error}"))
        })?;
        let this = Self { cron, zone };
        if this.next(Utc::now()).is_none() {
            return Err(Error::Invalid(format!("{expression:?} has no tick: there is no such day")));
        }
        Ok(this)
    }

    /// The first tick after a time; `None` when none will come.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.cron.determine_job_type() {
            JobType::FixedTime => {
                let mut from = after.with_timezone(&self.zone);
                loop {
                    let tick = self.cron.find_next_occurrence(&from, false).ok()?.with_timezone(&Utc);
                    if tick > after {
                        return Some(tick);
                    }
                    from += Duration::hours(1);
                }
            }
            JobType::IntervalWildcard => self.next_interval(after),
        }
    }

    /// The next tick of a job at intervals: within a stretch of one offset from UTC after the other, so that an hour that
    /// comes twice is gone through twice.
    fn next_interval(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after;
        let mut inclusive = false;
        for _ in 0..1000 {
            let offset = self.offset(if inclusive { from } else { from + Duration::seconds(1) });
            let tick =
                self.cron.find_next_occurrence(&from.with_timezone(&offset), inclusive).ok()?.with_timezone(&Utc);
            if self.offset(tick) == offset
                && self.offset(from + Duration::seconds(1)) == offset
                && !self.changes(from, tick)
            {
                return Some(tick);
            }
            // The offset changes before the tick: it may come earlier by the new one.
            from = self.change_after(from + Duration::seconds(1), tick)?;
            inclusive = true;
            let offset = self.offset(from);
            let tick = self.cron.find_next_occurrence(&from.with_timezone(&offset), true).ok()?.with_timezone(&Utc);
            if !self.changes(from, tick) {
                return Some(tick);
            }
        }
        None
    }

    fn offset(&self, time: DateTime<Utc>) -> FixedOffset {
        self.zone.offset_from_utc_datetime(&time.naive_utc()).fix()
    }

    /// Whether the offset changes between two times.
    fn changes(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        from < to && self.change_after(from + Duration::seconds(1), to).is_some()
    }

    /// The first second up to `to` at which the offset is not that of `from`.
    fn change_after(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset(from);
        let mut low = from;
        // Day by day: zones change their offset at most a few times a year, and back again.
        let mut high = loop {
            if low >= to {
                return None;
            }
            let next = (low + Duration::days(1)).min(to);
            if self.offset(next) != offset {
                break next;
            }
            low = next;
        };
        while high - low > Duration::seconds(1) {
            let middle = low + (high - low) / 2;
            if self.offset(middle) == offset { low = middle } else { high = middle }
        }
        // To the whole second at which it happens.
        DateTime::from_timestamp(high.timestamp(), 0)
            .map(|second| if self.offset(second) == offset { high } else { second })
    }

    /// The next ticks after a time, at most so many.
    pub fn upcoming(&self, after: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after), |tick| self.next(*tick)).take(most).collect()
    }
}

/// Which field of an expression is wrong: each is tried alone.
fn wrong_field(expression: &str) -> Option<String> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if !(5..=6).contains(&fields.len()) {
        return Some(format!("it has {} fields instead of 5 or 6", fields.len()));
    }
    let names = &FIELDS[6 - fields.len()..];
    fields.iter().enumerate().find_map(|(number, field)| {
        let alone: Vec<&str> = (0..fields.len()).map(|n| if n == number { *field } else { "*" }).collect();
        let wrong = alone.join(" ").parse::<Cron>().is_err();
        wrong.then(|| format!("field {} ({}) {field:?}", number + 1, names[number]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    /// Expression, zone, after, and the ticks that follow.
    #[test]
    fn ticks_over_changes_of_daylight_saving_time_and_leap_days() {
        let table: &[(&str, &str, &str, &[&str])] = &[
            // Berlin: 2026-03-29 02:00 -> 03:00, 2026-10-25 03:00 -> 02:00.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T00:00:00Z",
                &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            ),
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-03-29T00:15:00Z",
                &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:45:00Z",
                &[
                    "2026-10-25T00:00:00Z",
                    "2026-10-25T00:30:00Z",
                    "2026-10-25T01:00:00Z",
                    "2026-10-25T01:30:00Z",
                    "2026-10-25T02:00:00Z",
                ],
            ),
            // New York: 2026-03-08 02:00 -> 03:00, 2026-11-01 02:00 -> 01:00.
            (
                "0 2 * * *",
                "America/New_York",
                "2026-03-07T12:00:00Z",
                &["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"],
            ),
            (
                "30 1 * * *",
                "America/New_York",
                "2026-10-31T12:00:00Z",
                &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
            ),
            (
                "0 * * * *",
                "America/New_York",
                "2026-11-01T04:30:00Z",
                &["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"],
            ),
            // Lord Howe: half an hour, 2026-04-05 02:00 -> 01:30, 2026-10-04 02:00 -> 02:30.
            (
                "*/15 * * * *",
                "Australia/Lord_Howe",
                "2026-04-04T14:40:00Z",
                &["2026-04-04T14:45:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:15:00Z", "2026-04-04T15:30:00Z"],
            ),
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
            ),
            // Leap days, last days, weekdays, seconds.
            ("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"]),
            ("0 0 L * *", "UTC", "2026-01-31T00:00:00Z", &["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]),
            ("0 9 * * MON#1", "UTC", "2026-11-21T00:00:00Z", &["2026-12-07T09:00:00Z", "2027-01-04T09:00:00Z"]),
            ("*/20 * * * * *", "UTC", "2026-01-01T00:00:50Z", &["2026-01-01T00:01:00Z", "2026-01-01T00:01:20Z"]),
            ("@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z", &["2026-01-01T18:30:00Z", "2026-01-02T18:30:00Z"]),
        ];
        for (expression, zone, after, ticks) in table {
            let cron = CronExpression::parse(expression, zone).unwrap();
            let expected: Vec<_> = ticks.iter().map(|t| utc(t)).collect();
            assert_eq!(cron.upcoming(utc(after), ticks.len()), expected, "{expression} in {zone} after {after}");
        }
    }

    #[test]
    fn no_tick_is_lost_or_doubled_whatever_the_time_that_it_is_asked_for() {
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
            let cron = CronExpression::parse("*/5 * * * *", zone).unwrap();
            for start in [
                "2026-03-08T00:00:00Z",
                "2026-03-28T20:00:00Z",
                "2026-04-04T10:00:00Z",
                "2026-10-24T20:00:00Z",
                "2026-11-01T00:00:00Z",
            ] {
                let mut at = utc(start);
                for _ in 0..200 {
                    let next = cron.next(at).unwrap();
                    assert_eq!(next - at, Duration::minutes(5), "{zone} after {at}");
                    at = next;
                }
            }
        }
    }

    #[test]
    fn wrong_expressions_are_refused_with_the_position() {
        for (expression, place) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("* * * * * * * *", "8 fields"),
            ("60 * * * *", "field 1 (minute) \"60\""),
            ("* 24 * * *", "field 2 (hour) \"24\""),
            ("* * 32 * *", "field 3 (day of month) \"32\""),
            ("* * * 13 *", "field 4 (month) \"13\""),
            ("* * * * FOO", "field 5 (day of week) \"FOO\""),
            ("61 * * * * *", "field 1 (second) \"61\""),
            ("*/0 * * * *", "field 1 (minute) \"*/0\""),
            ("5-1 * * * *", "field 1 (minute) \"5-1\""),
            ("0 0 30 2 *", "no such day"),
            ("a b c d e", "field 1 (minute) \"a\""),
        ] {
            let error = CronExpression::parse(expression, "UTC").unwrap_err().to_string();
            assert!(error.contains(place), "{expression}: {error}");
        }
        let error = CronExpression::parse("* * * * *", "Europe/Atlantis").unwrap_err().to_string();
        assert!(error.contains("\"Europe/Atlantis\" is not a time zone"), "{error}");
    }
}
