//! The dates and times of day that an expression names, without any zone.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use croner::Cron;

/// So many years are searched: the 29th of February is a certain day of the week every 40 years at the latest.
const YEARS: i32 = 60;

/// Every value of a field.
const ALL_BIT: u8 = 1;

/// Dates by croner's pattern; times of day as sorted values.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    cron: Cron,
    hours: Vec<u32>,
    minutes: Vec<u32>,
    seconds: Vec<u32>,
}

impl Calendar {
    pub(super) fn of(cron: &Cron) -> Self {
        let values = |values: Vec<u16>| values.into_iter().map(u32::from).collect();
        let pattern = &cron.pattern;
        Self {
            cron: cron.clone(),
            hours: values(pattern.hours.get_set_values(ALL_BIT)),
            minutes: values(pattern.minutes.get_set_values(ALL_BIT)),
            seconds: values(pattern.seconds.get_set_values(ALL_BIT)),
        }
    }

    /// How many times of day there are.
    pub(super) fn times(&self) -> usize {
        self.hours.len() * self.minutes.len() * self.seconds.len()
    }

    /// A time of day, by its number from 0.
    pub(super) fn time(&self, number: usize) -> NaiveTime {
        let (rest, second) = (number / self.seconds.len(), number % self.seconds.len());
        let (hour, minute) = (rest / self.minutes.len(), rest % self.minutes.len());
        NaiveTime::from_hms_opt(self.hours[hour], self.minutes[minute], self.seconds[second]).unwrap_or_default()
    }

    /// The first date from this one on.
    pub(super) fn next_date(&self, from: NaiveDate) -> Option<NaiveDate> {
        let pattern = &self.cron.pattern;
        let mut date = from;
        while date.year() <= from.year() + YEARS {
            if !pattern.month_match(date.month()).ok()? {
                date = first_of_next_month(date)?;
            } else if pattern.day_match(date.year(), date.month(), date.day()).ok()? {
                return Some(date);
            } else {
                date = date.succ_opt()?;
            }
        }
        None
    }

    /// The first date and time from this one on, which is a whole second.
    pub(super) fn next_local(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let date = self.next_date(from.date())?;
        if date > from.date() {
            return Some(date.and_time(self.time(0)));
        }
        match self.next_time(from.time()) {
            Some(time) => Some(date.and_time(time)),
            None => Some(self.next_date(date.succ_opt()?)?.and_time(self.time(0))),
        }
    }

    fn next_time(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (mut low, mut high) = (0, self.times());
        while low < high {
            let middle = (low + high) / 2;
            if self.time(middle) < from { low = middle + 1 } else { high = middle }
        }
        debug_assert!(from.nanosecond() == 0, "{from} is a whole second");
        (low < self.times()).then(|| self.time(low))
    }
}

fn first_of_next_month(date: NaiveDate) -> Option<NaiveDate> {
    let (year, month) = if date.month() == 12 { (date.year() + 1, 1) } else { (date.year(), date.month() + 1) };
    NaiveDate::from_ymd_opt(year, month, 1)
}
