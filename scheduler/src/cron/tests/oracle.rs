//! An oracle apart from the search: real time is walked through minute by minute, over every change of every zone in two years.

use std::collections::HashSet;

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, Timelike, Utc, Weekday};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::{super::zone, CronExpression, utc};

type Names = fn(NaiveDateTime) -> bool;

/// Expressions at one fixed time a day: hour, minute, and the dates that they name.
const FIXED: &[(&str, u32, u32, Names)] = &[
    ("0 0 * * *", 0, 0, |_| true),
    ("30 0 * * *", 0, 30, |_| true),
    ("0 1 * * *", 1, 0, |_| true),
    ("30 1 * * *", 1, 30, |_| true),
    ("15 2 * * *", 2, 15, |_| true),
    ("30 2 * * *", 2, 30, |_| true),
    ("0 3 * * *", 3, 0, |_| true),
    ("0 9 * * *", 9, 0, |_| true),
    ("59 23 * * *", 23, 59, |_| true),
    ("30 1 * * SUN", 1, 30, |t| t.weekday() == Weekday::Sun),
    ("30 2 29 3 *", 2, 30, |t| (t.month(), t.day()) == (3, 29)),
    ("30 0 25 10 *", 0, 30, |t| (t.month(), t.day()) == (10, 25)),
    ("@daily", 0, 0, |_| true),
];

/// Expressions at intervals: the local minutes that they name.
const INTERVALS: &[(&str, Names)] = &[
    ("*/5 * * * *", |t| t.minute() % 5 == 0),
    ("0 * * * *", |t| t.minute() == 0),
    ("0 */2 * * *", |t| t.minute() == 0 && t.hour() % 2 == 0),
    ("0,30 * * * *", |t| t.minute() % 30 == 0),
    ("*/15 1-3 * * *", |t| t.minute() % 15 == 0 && (1..=3).contains(&t.hour())),
    ("7 */3 * * *", |t| t.minute() == 7 && t.hour() % 3 == 0),
    ("*/20 2 * * SUN", |t| t.minute() % 20 == 0 && t.hour() == 2 && t.weekday() == Weekday::Sun),
    ("@hourly", |t| t.minute() == 0),
];

/// The changes of a zone in the two years.
fn changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let (first, end) = (utc("2026-01-01T00:00:00Z"), utc("2028-01-01T00:00:00Z"));
    std::iter::successors(zone::change(zone, first, end), |change| zone::change(zone, *change, end)).collect()
}

/// Real minutes about a change, each with what the local clock shows.
fn minutes(zone: Tz, change: DateTime<Utc>) -> Vec<(DateTime<Utc>, NaiveDateTime)> {
    let first = change - Duration::hours(52);
    let minute = |n| {
        let moment = first + Duration::minutes(n);
        (moment, moment.with_timezone(&zone).naive_local())
    };
    (0..104 * 60).map(minute).collect()
}

/// One run for each named day: at the first moment at which the clock shows its time or a later one.
fn fixed_ticks(minutes: &[(DateTime<Utc>, NaiveDateTime)], hour: u32, minute: u32, names: Names) -> Vec<DateTime<Utc>> {
    let mut dates: Vec<_> = minutes.iter().map(|(_, local)| local.date()).collect();
    dates.dedup();
    dates.sort();
    dates.dedup();
    let mut ticks: Vec<_> = dates
        .into_iter()
        .filter_map(|date| date.and_hms_opt(hour, minute, 0))
        .filter(|named| names(*named))
        .filter_map(|named| minutes.iter().find(|(_, local)| *local >= named).map(|(moment, _)| *moment))
        .collect();
    ticks.dedup();
    ticks
}

fn check(zone: Tz, expression: &str, change: DateTime<Utc>, expected: &[DateTime<Utc>]) {
    // The edges of what was walked through say nothing.
    let (from, to) = (change - Duration::hours(26), change + Duration::hours(26));
    let expected: Vec<_> = expected.iter().filter(|tick| **tick > from && **tick <= to).copied().collect();
    let cron = CronExpression::parse(expression, zone.name()).unwrap();
    let found: Vec<_> =
        std::iter::successors(cron.next(from), |tick| cron.next(*tick)).take_while(|tick| *tick <= to).collect();
    assert_eq!(found, expected, "{expression} in {zone} about {change}");
}

#[test]
fn in_every_zone_every_change_is_gone_through_as_the_rule_says() {
    // Zones that show the same time all the while are one.
    let mut seen = HashSet::new();
    let mut zones = 0;
    for zone in TZ_VARIANTS {
        let changes = changes(zone);
        zones += usize::from(!changes.is_empty());
        for change in changes {
            let key = (
                change,
                zone::offset(zone, change - Duration::days(3)),
                zone::offset(zone, change + Duration::days(3)),
            );
            if !seen.insert(key) {
                continue;
            }
            let minutes = minutes(zone, change);
            for (expression, hour, minute, names) in FIXED {
                check(zone, expression, change, &fixed_ticks(&minutes, *hour, *minute, *names));
            }
            for (expression, names) in INTERVALS {
                let expected: Vec<_> =
                    minutes.iter().filter(|(_, local)| names(*local)).map(|(moment, _)| *moment).collect();
                check(zone, expression, change, &expected);
            }
        }
    }
    assert!(zones > 150 && seen.len() > 30, "{zones} zones, {} changes", seen.len());
}
