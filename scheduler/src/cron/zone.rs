//! Local times and moments.

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// How far a zone is ahead of UTC at a moment.
pub(super) fn offset(zone: Tz, moment: DateTime<Utc>) -> TimeDelta {
    TimeDelta::seconds(i64::from(zone.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc()))
}

/// The moment of a local time: the first of two, or the first one after the gap that the clock jumps over.
pub(super) fn moment(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(moment) => Some(moment.with_timezone(&Utc)),
        LocalResult::Ambiguous(one, other) => Some(one.min(other).with_timezone(&Utc)),
        LocalResult::None => {
            // Offsets are less than a day, so that the jump is within two days.
            let (mut from, to) = (local.and_utc() - Duration::days(2), local.and_utc() + Duration::days(2));
            loop {
                let change = self::change(zone, from, to)?;
                if (change + offset(zone, change)).naive_utc() > local {
                    return Some(change);
                }
                from = change;
            }
        }
    }
}

/// The first second after `from` and up to `to` at which the offset is not that of `from`.
pub(super) fn change(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let before = offset(zone, from);
    let mut low = from.trunc_subsecs(0);
    // Day by day: zones change their offset at most a few times a year, and back again.
    let mut high = loop {
        if low >= to {
            return None;
        }
        let next = (low + Duration::days(1)).min(to);
        if offset(zone, next) != before {
            break next;
        }
        low = next;
    };
    while high - low > TimeDelta::seconds(1) {
        let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
        if offset(zone, middle) == before { low = middle } else { high = middle }
    }
    Some(high)
}
