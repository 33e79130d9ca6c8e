//! Durations on their way to the database.

use std::time::Duration;

/// Longest wait that the database is asked for: 10,000 days.
pub const LONGEST: Duration = Duration::from_secs(10_000 * 86_400);

/// Whole milliseconds, as the database functions take them. Whatever is longer than 10,000 days is 10,000 days: a wait "for ever"
/// must not become one of none at all.
pub fn millis(duration: Duration) -> i64 {
    duration.min(LONGEST).as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_ever_is_very_long() {
        assert_eq!(millis(Duration::from_millis(1500)), 1500);
        assert_eq!(millis(Duration::from_nanos(999_999)), 0);
        for endless in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1_000_000_000_000_000)] {
            assert_eq!(millis(endless), 10_000 * 86_400_000);
        }
    }
}
