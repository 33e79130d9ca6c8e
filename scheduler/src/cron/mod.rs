//! Cron expressions with time zones.
//!
//! Five fields (minute, hour, day of month, month, day of week) or six with seconds first; names (`MON`, `JAN`), lists, ranges,
//! steps, `L`, `W`, `#`, and `@daily` and its relatives. Read by the crate croner; zones are IANA names by chrono-tz.
//!
//! When both day fields are restricted, a day that either of them names counts. A field that begins with `*` (also `*/2`) does not
//! extend the other: then a day counts that both of them name. So does Vixie cron.
//!
//! At changes of daylight-saving time there are two kinds of jobs:
//!
//! - **Fixed times**: no `*` and no step among second, minute and hour. Each time that the expression names runs once on each day
//!   that it names: at the first moment after the gap when the clock jumps over it, and at the first of the two when it comes twice.
//! - **Intervals**: all others. They follow real time: they run whenever the local clock shows what they name, in an hour that comes
//!   twice both times, in one that is left out not at all.
//!
//! So dates and times of day are searched without any zone (`calendar`), and one function maps a local time to its moment (`zone`).

mod calendar;
mod fields;
mod zone;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Duration, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;

use self::{calendar::Calendar, fields::Fields};
use crate::Error;

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct CronExpression {
    calendar: Calendar,
    fixed: bool,
    zone: Tz,
}

impl CronExpression {
    /// Reads an expression and a zone. Fails with the field that is wrong, by its number and name.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, Error> {
        let zone: Tz = zone.parse().map_err(|_| {
            Error::Invalid(format!("{zone:?} is not a time zone; write an IANA name, as in Europe/Berlin or UTC"))
        })?;
        let fields = Fields::read(expression)?;
        let this = Self { calendar: Calendar::of(&fields.cron), fixed: fields.fixed, zone };
        if this.next(Utc::now()).is_none() {
            return Err(Error::Invalid(format!("{expression:?} has no tick: there is no such day")));
        }
        Ok(this)
    }

    /// The first tick after a time, a whole second; `None` when none will come.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.fixed { self.next_fixed(after) } else { self.next_interval(after) }
    }

    /// The next ticks after a time, at most so many.
    pub fn upcoming(&self, after: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after), |tick| self.next(*tick)).take(most).collect()
    }

    /// Local times map to moments in the same order, so that on each day the first later one is found by halving.
    fn next_fixed(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A gap may move a time of the day before, or of two days before where a whole day is left out, behind this moment.
        let local = after.checked_add_signed(zone::offset(self.zone, after))?.date_naive();
        let mut date = self.calendar.next_date(local - Duration::days(2))?;
        loop {
            let moment = |time: usize| zone::moment(self.zone, date.and_time(self.calendar.time(time)));
            let (mut low, mut high) = (0, self.calendar.times());
            while low < high {
                let middle = (low + high) / 2;
                if moment(middle).is_none_or(|moment| moment <= after) { low = middle + 1 } else { high = middle }
            }
            if low < self.calendar.times() {
                return moment(low);
            }
            date = self.calendar.next_date(date.succ_opt()?)?;
        }
    }

    /// Within a stretch of one offset from UTC after the other, so that an hour that comes twice is gone through twice.
    fn next_interval(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after.trunc_subsecs(0).checked_add_signed(TimeDelta::seconds(1))?;
        loop {
            let offset = zone::offset(self.zone, from);
            let local = from.checked_add_signed(offset)?.naive_utc();
            let tick = self.calendar.next_local(local)?.and_utc().checked_sub_signed(offset)?;
            match zone::change(self.zone, from, tick) {
                None => return Some(tick),
                Some(change) => from = change,
            }
        }
    }
}
