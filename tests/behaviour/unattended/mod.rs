//! What makes it run by itself: schedules, retention, unique starts, locks, and workers that can be looked at.

mod fleet;
mod locks;
mod retention;
mod schedules;
mod ticks;
mod unique;
