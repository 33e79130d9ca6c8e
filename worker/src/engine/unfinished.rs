//! Work of which nobody is told.
//!
//! Who makes steps ready looks for listeners, and commits after that: a worker that enters itself in between is not told, and its
//! look comes too early. So it asks which transactions were in progress then, and looks again and again until they have ended.

use std::time::Duration;

/// Before the first look after the one that came too early: about as long as a commit takes.
const FIRST_WAIT: Duration = Duration::from_millis(2);

/// Transactions that may have looked for listeners before this worker became one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// They are older than the transaction with this id.
    pub(super) before: i64,
    /// How long to wait before the next look. A transaction can last for hours.
    pub(super) wait: Duration,
}

impl Unfinished {
    /// What a claim has found out, after what was known before it.
    pub(super) fn found(before: Option<i64>, known: Option<Self>) -> Option<Self> {
        let before = before?;
        Some(known.filter(|k| k.before == before).unwrap_or(Self { before, wait: FIRST_WAIT }))
    }

    /// As long again before the look after this one, and never longer than anybody waits between polls.
    pub(super) fn later(self) -> Self {
        Self { wait: self.wait.saturating_mul(2), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_less_and_less_often_until_the_transactions_have_ended() {
        let first = Unfinished::found(Some(7), None).expect("7 is not the oldest");
        assert_eq!(first.wait, FIRST_WAIT);
        let second = first.later();
        assert_eq!(second.wait, FIRST_WAIT * 2);
        assert_eq!(Unfinished::found(Some(7), Some(second)), Some(second), "the same transactions as before");
        assert_eq!(Unfinished::found(Some(9), Some(second)).map(|u| u.wait), Some(FIRST_WAIT), "others");
        assert_eq!(Unfinished::found(None, Some(second)), None);
    }
}
