//! What makes it run by itself: schedules, retention, unique starts, locks, and workers that can be looked at.

mod archives;
mod fleet;
mod forgetting;
mod locks;
mod overseeing;
mod partitions;
mod retention;
mod schedules;
mod ticks;
mod unique;
