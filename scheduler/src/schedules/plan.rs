//! Which ticks of a schedule are due, and what each policy for missed ones makes of them. A look at a schedule is bounded, however
//! long nobody looked.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use longhaul_schema::calls::{Missed, Moved, ScheduleInfo, Tick};

use crate::{Error, cron::CronExpression};

/// A tick that is later than this is missed.
const PUNCTUAL: TimeDelta = TimeDelta::seconds(60);

/// Most ticks of a schedule that are made up for.
const MOST_MISSED: usize = 1000;

/// Most ticks of a schedule that are fired in one transaction.
const MOST_AT_ONCE: usize = 100;

/// The ticks of a schedule: those of its expression, within its time.
pub(super) struct Ticks<'a> {
    cron: CronExpression,
    schedule: &'a ScheduleInfo,
}

impl<'a> Ticks<'a> {
    pub(super) fn of(schedule: &'a ScheduleInfo) -> Result<Self, Error> {
        Ok(Self { cron: CronExpression::parse(&schedule.cron, &schedule.zone)?, schedule })
    }

    /// The first tick after a time.
    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A tick at the very start counts.
        let from = self.schedule.starts_at.map_or(after, |start| after.max(start - TimeDelta::nanoseconds(1)));
        self.cron.next(from).filter(|tick| self.schedule.ends_at.is_none_or(|end| *tick <= end))
    }

    /// The ticks after a time and up to another one, at most so many.
    pub(super) fn between(&self, after: DateTime<Utc>, to: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after), |tick| self.next(*tick))
            .take_while(|tick| *tick <= to)
            .take(most)
            .collect()
    }

    /// The last ticks from `first` on and up to a time, at most so many.
    fn last(&self, first: DateTime<Utc>, to: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        let mut ticks = vec![first];
        ticks.extend(self.between(first, to, most));
        if ticks.len() <= most {
            return ticks;
        }
        // The earliest second after which there are no more than that, by halving: nobody walks through months of seconds.
        let (mut low, mut high) = (first, to);
        while high - low > TimeDelta::seconds(1) {
            let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
            if self.between(middle, to, most + 1).len() > most { low = middle } else { high = middle }
        }
        self.between(high, to, most)
    }
}

/// What is to be done about a due schedule.
pub(super) struct Plan {
    pub(super) ticks: Vec<Tick>,
    pub(super) moved: Moved,
}

impl Plan {
    /// `tried`: a tick whose start met something that passes. It is not missed, however late it is.
    pub(super) fn of(schedule: &ScheduleInfo, now: DateTime<Utc>, tried: Option<DateTime<Utc>>) -> Self {
        let Some(first) = schedule.next_at.map(|next| next.trunc_subsecs(0)).filter(|next| *next <= now) else {
            // Changed since its last try.
            let moved = Moved { schedule: schedule.id, last: None, next: schedule.next_at, error: None };
            return Self { ticks: vec![], moved };
        };
        let ticks = match Ticks::of(schedule) {
            Ok(ticks) => ticks,
            Err(error) => {
                // Stored by somebody who did not check: it will not become right by itself.
                tracing::error!(schedule = schedule.name, %error, "a schedule has no next tick");
                let error = Some(error.to_string());
                return Self { ticks: vec![], moved: Moved { schedule: schedule.id, last: None, next: None, error } };
            }
        };
        let tried = tried == Some(first) || schedule.tried_tick == Some(first);
        let mut fired = match schedule.missed {
            Missed::Skip => {
                let punctual = now - PUNCTUAL - TimeDelta::nanoseconds(1);
                let mut fired = ticks.between(punctual.max(first), now, MOST_AT_ONCE);
                if tried || first > punctual {
                    fired.insert(0, first);
                }
                fired
            }
            Missed::Once => ticks.last(first, now, 1),
            Missed::All => ticks.last(first, now, MOST_MISSED),
        };
        let rest = fired.split_off(fired.len().min(MOST_AT_ONCE));
        let next = match (rest.first(), fired.last()) {
            (Some(next), _) => Some(*next),
            (None, last) => ticks.next(last.copied().unwrap_or(first).max(now)),
        };
        let last = fired.last().copied().or(Some(first));
        let tick = |at, missed| Tick { schedule: schedule.id, at, missed };
        // Of all that is not made up for, the first is recorded.
        let passed = (fired.first() != Some(&first)).then(|| tick(first, true));
        let ticks = passed.into_iter().chain(fired.into_iter().map(|at| tick(at, false))).collect();
        Self { ticks, moved: Moved { schedule: schedule.id, last, next, error: None } }
    }

    /// The tick that comes first.
    pub(super) fn first(&self) -> Option<DateTime<Utc>> {
        self.ticks.first().map(|tick| tick.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Overlap, Schedule};

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    fn due(cron: &str, missed: Missed, next_at: &str) -> ScheduleInfo {
        let mut schedule = Schedule::new("s", cron, "f").missed(missed).overlap(Overlap::Allow).info;
        schedule.next_at = Some(utc(next_at));
        schedule
    }

    fn plan(schedule: &ScheduleInfo, now: &str) -> Plan {
        Plan::of(schedule, utc(now), None)
    }

    #[test]
    fn a_year_of_missed_seconds_is_a_bounded_look() {
        let skip = plan(&due("* * * * * *", Missed::Skip, "2025-01-01T00:00:00Z"), "2026-01-01T00:00:00.5Z");
        assert_eq!((skip.ticks.len(), skip.moved.next), (61, Some(utc("2026-01-01T00:00:01Z"))));
        assert!(skip.ticks[0].missed && skip.ticks[1..].iter().all(|tick| !tick.missed));
        let once = plan(&due("* * * * * *", Missed::Once, "2025-01-01T00:00:00Z"), "2026-01-01T00:00:00.5Z");
        let fired: Vec<_> = once.ticks.iter().map(|tick| (tick.at, tick.missed)).collect();
        assert_eq!(fired, [(utc("2025-01-01T00:00:00Z"), true), (utc("2026-01-01T00:00:00Z"), false)]);

        let mut schedule = due("* * * * * *", Missed::All, "2025-01-01T00:00:00Z");
        let mut all = Vec::new();
        while schedule.next_at.unwrap() <= utc("2026-01-01T00:00:00Z") {
            let plan = plan(&schedule, "2026-01-01T00:00:00Z");
            assert!(plan.ticks.len() <= MOST_AT_ONCE + 1);
            all.extend(plan.ticks.into_iter().filter(|tick| !tick.missed).map(|tick| tick.at));
            schedule.next_at = plan.moved.next;
        }
        assert_eq!((all.len(), all[0], all[999]), (1000, utc("2025-12-31T23:43:21Z"), utc("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn a_tick_that_was_tried_is_fired_however_late_it_is() {
        let schedule = due("0 3 * * *", Missed::Skip, "2026-01-01T03:00:00Z");
        let late = utc("2026-01-01T03:30:00Z");
        assert!(Plan::of(&schedule, late, None).ticks[0].missed);
        assert!(!Plan::of(&schedule, late, Some(utc("2026-01-01T03:00:00Z"))).ticks[0].missed);
        assert!(Plan::of(&schedule, late, Some(utc("2025-12-31T03:00:00Z"))).ticks[0].missed);
    }

    #[test]
    fn a_schedule_ends_and_a_wrong_one_says_why() {
        let mut schedule = due("0 3 * * *", Missed::All, "2026-01-01T03:00:00Z");
        schedule.ends_at = Some(utc("2026-01-02T03:00:00Z"));
        let plan = plan(&schedule, "2026-01-05T00:00:00Z");
        assert_eq!((plan.ticks.len(), plan.moved.next), (2, None), "a tick at the very end counts");
        schedule.cron = "0 99 * * *".into();
        let plan = Plan::of(&schedule, utc("2026-01-05T00:00:00Z"), None);
        assert!(plan.ticks.is_empty() && plan.moved.error.unwrap().contains("field 2 (hour)"));
    }
}
