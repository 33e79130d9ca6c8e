//! Expressions, their mistakes, and their ticks.

use super::*;

mod oracle;

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
        ("0 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
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
        ("* * * * * * 2027", "7 fields"),
        ("*/90 * * * *", "field 1 (minute) \"*/90\": a step must be at most 59"),
        ("*/61 * * * *", "field 1 (minute)"),
        ("*/60 * * * * *", "field 1 (second)"),
        ("0 */36 * * *", "field 2 (hour) \"*/36\": a step must be at most 23"),
        ("0 1-5/24 * * *", "field 2 (hour)"),
        ("0 0 */45 * *", "field 3 (day of month) \"*/45\": a step must be at most 30"),
        ("0 0 1 */13 *", "field 4 (month) \"*/13\": a step must be at most 11"),
        ("0 0 * * */7", "field 5 (day of week)"),
        ("0 0 * * MON/9", "field 5 (day of week)"),
        ("1,,2 * * * *", "field 1 (minute) \"1,,2\": an item of the list is empty"),
        (",1 * * * *", "field 1 (minute)"),
        ("0 1, * * *", "field 2 (hour)"),
        ("0 0 13 * +FRI", "field 5 (day of week)"),
        ("MON * * * *", "field 1 (minute) \"MON\": \"MON\" is no value of it"),
        ("0 0 1 MON *", "field 4 (month)"),
        ("0 0 1 JAN1 *", "field 4 (month)"),
        ("0 0 * * JAN", "field 5 (day of week)"),
        ("0 0 * * 1MON", "field 5 (day of week)"),
        ("0 0 L1 * *", "field 3 (day of month)"),
        ("@reboot", "no known name"),
        ("@every", "no known name"),
    ] {
        let error = CronExpression::parse(expression, "UTC").unwrap_err().to_string();
        assert!(error.contains(place), "{expression}: {error}");
    }
    let error = CronExpression::parse("* * * * *", "Europe/Atlantis").unwrap_err().to_string();
    assert!(error.contains("\"Europe/Atlantis\" is not a time zone"), "{error}");
}

/// Days of month and days of week: a field that begins with `*` never adds a day.
#[test]
fn the_two_day_fields_add_up_or_narrow_each_other() {
    let table: &[(&str, &[u32])] = &[
        ("0 0 13 * FRI", &[6, 13, 20, 27]),
        ("0 0 1,2 * MON", &[1, 2, 9, 16, 23, 30]),
        ("0 0 */2 * MON", &[9, 23]),
        ("0 0 1-7 * */3", &[1, 4, 7]),
        ("0 0 * * MON", &[2, 9, 16, 23, 30]),
        ("0 0 10 * *", &[10]),
        ("0 0 */10 * ?", &[1, 11, 21, 31]),
        ("0 0 * * friL", &[27]),
        ("0 0 * MAR-apr Mon#1,5L", &[2, 27]),
        ("0 0 L * *", &[31]),
        ("0 0 1W * *", &[2]),
    ];
    for (expression, days) in table {
        let cron = CronExpression::parse(expression, "UTC").unwrap();
        let ticks = cron.upcoming(utc("2026-02-28T23:59:59Z"), 40);
        let march: Vec<u32> = ticks
            .iter()
            .filter(|tick| tick.format("%Y-%m").to_string() == "2026-03")
            .map(|tick| tick.format("%-d").to_string().parse().unwrap())
            .collect();
        assert_eq!(march, *days, "{expression}");
    }
}

#[test]
fn ticks_are_whole_seconds_whenever_they_are_asked_for() {
    for (expression, tick) in [("0 3 * * *", "2026-01-02T03:00:00Z"), ("*/5 * * * *", "2026-01-01T03:05:00Z")] {
        let cron = CronExpression::parse(expression, "UTC").unwrap();
        assert_eq!(cron.next(utc("2026-01-01T03:00:00.640512Z")), Some(utc(tick)), "{expression}");
    }
    let cron = CronExpression::parse("0 3 * * *", "UTC").unwrap();
    assert_eq!(cron.next(utc("2026-01-01T02:59:59.999999Z")), Some(utc("2026-01-01T03:00:00Z")), "not one is left out");
    assert_eq!(cron.next(utc("2026-01-01T03:00:00Z")), Some(utc("2026-01-02T03:00:00Z")), "nor comes twice");
}

#[test]
fn several_fixed_times_a_day_run_once_each_and_meet_behind_a_gap() {
    let cron = CronExpression::parse("0,30 2-3 * * *", "Europe/Berlin").unwrap();
    let spring = ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"];
    assert_eq!(cron.upcoming(utc("2026-03-29T00:00:00Z"), 3), spring.map(utc));
    let autumn = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"];
    assert_eq!(cron.upcoming(utc("2026-10-24T12:00:00Z"), 4), autumn.map(utc));
    let everything = CronExpression::parse("0-59 0-59 0-23 * * *", "Europe/Berlin").unwrap();
    assert_eq!(everything.next(utc("2026-10-25T00:59:59Z")), Some(utc("2026-10-25T02:00:00Z")), "an hour runs once");
}
