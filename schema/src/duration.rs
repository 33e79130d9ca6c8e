//! Durations on their way to the database.

use std::time::Duration;

/// Longest wait that the database is asked for: 10,000 days.
pub const LONGEST: Duration = Duration::from_secs(10_000 * 86_400);

/// Whole milliseconds, as the database functions take them. Whatever is longer than 10,000 days is 10,000 days: a wait "for ever"
/// must not become one of none at all.
pub fn millis(duration: Duration) -> i64 {
    duration.min(LONGEST).as_millis() as i64
}

/// Milliseconds that the database has stored, as a duration: none of less than nothing, and at most 10,000 days.
pub fn from_millis(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0).unsigned_abs()).min(LONGEST)
}

/// The same of seconds with a fraction; what is no number is nothing.
pub fn from_seconds(seconds: f64) -> Duration {
    if seconds.is_nan() {
        return Duration::ZERO;
    }
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64()))
}

/// Seconds with a fraction, as intervals are made of them; at most 10,000 days.
pub fn seconds(duration: Duration) -> f64 {
    duration.min(LONGEST).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_stored_is_a_duration() {
        assert_eq!(from_millis(-1), Duration::ZERO);
        assert_eq!(from_millis(i64::MAX), LONGEST);
        for odd in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(from_seconds(odd), Duration::ZERO);
        }
        assert_eq!(from_seconds(f64::INFINITY), LONGEST);
        assert_eq!(seconds(Duration::MAX), LONGEST.as_secs_f64());
    }

    #[test]
    fn for_ever_is_very_long() {
        assert_eq!(millis(Duration::from_millis(1500)), 1500);
        assert_eq!(millis(Duration::from_nanos(999_999)), 0);
        for endless in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1_000_000_000_000_000)] {
            assert_eq!(millis(endless), 10_000 * 86_400_000);
        }
    }
}
