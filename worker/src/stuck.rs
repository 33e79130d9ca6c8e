//! Handlers that block their thread. An async handler must give its thread back while it waits; one that does not keeps other
//! steps, and at worst the heartbeat, from it. Nothing can stop it from within the process, but it can be named: a thread of
//! its own looks once a second at what every runtime thread is polling, and for how long.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use longhaul_schema::calls::{AttemptKey, StepKey};
use uuid::Uuid;

/// A handler that keeps its thread for longer than this is named.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a thread of the runtime is polling. Written by that thread alone, read by the watch.
#[derive(Debug, Default)]
struct Seat {
    /// Milliseconds since the watch began, plus one; 0: nothing.
    since: AtomicU64,
    run: (AtomicU64, AtomicU64),
    step: AtomicU64,
}

struct Watch {
    began: Instant,
    seats: Mutex<Vec<Weak<Seat>>>,
}

static WATCH: OnceLock<Watch> = OnceLock::new();

thread_local! {
    static SEAT: Arc<Seat> = take_seat();
}

fn take_seat() -> Arc<Seat> {
    let watch = WATCH.get_or_init(|| {
        let spawned = std::thread::Builder::new().name("longhaul-watch".into()).spawn(look_around);
        if let Err(error) = spawned {
            tracing::warn!(%error, "handlers that block their thread will not be named");
        }
        Watch { began: Instant::now(), seats: Mutex::default() }
    });
    let seat = Arc::new(Seat::default());
    watch.seats.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&seat));
    seat
}

fn now() -> u64 {
    WATCH.get().map_or(1, |watch| watch.began.elapsed().as_millis() as u64 + 1)
}

/// Polls something for an attempt, in sight of the watch.
pub(crate) fn watched<T>(key: AttemptKey, poll: impl FnOnce() -> T) -> T {
    SEAT.with(|seat| {
        let (high, low) = key.step.run_id.as_u64_pair();
        seat.run.0.store(high, Relaxed);
        seat.run.1.store(low, Relaxed);
        seat.step
            .store((u64::from(key.step.seq.unsigned_abs()) << 32) | u64::from(key.attempt.unsigned_abs()), Relaxed);
        seat.since.store(now(), Relaxed);
        // Cleared when the handler panics, too.
        let _leave = Leave(seat);
        poll()
    })
}

struct Leave<'a>(&'a Seat);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Relaxed);
    }
}

/// Attempts that keep their thread for longer than `patience`, and for how long.
pub(crate) fn stuck(patience: Duration) -> Vec<(AttemptKey, Duration)> {
    let Some(watch) = WATCH.get() else { return Vec::new() };
    let now = now();
    let mut seats = watch.seats.lock().unwrap_or_else(PoisonError::into_inner);
    seats.retain(|seat| seat.strong_count() > 0);
    seats
        .iter()
        .filter_map(Weak::upgrade)
        .filter_map(|seat| {
            let since = seat.since.load(Relaxed);
            let held = Duration::from_millis(now.saturating_sub(since));
            let step = seat.step.load(Relaxed);
            let run_id = Uuid::from_u64_pair(seat.run.0.load(Relaxed), seat.run.1.load(Relaxed));
            let key = AttemptKey { step: StepKey { run_id, seq: (step >> 32) as i32 }, attempt: step as u32 as i32 };
            (since != 0 && held >= patience).then_some((key, held))
        })
        .collect()
}

fn look_around() {
    loop {
        std::thread::sleep(PATIENCE);
        for (key, held) in stuck(PATIENCE) {
            tracing::warn!(
                run = %key.step.run_id, step = key.step.seq, attempt = key.attempt, seconds = held.as_secs(),
                "a handler blocks its thread: it must await, or do such work in tokio::task::spawn_blocking"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_blocks_its_thread_is_named_until_it_gives_it_back() {
        let key = AttemptKey { step: StepKey { run_id: Uuid::now_v7(), seq: 7 }, attempt: 3 };
        let (entered, wait) = std::sync::mpsc::channel();
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            watched(key, || {
                entered.send(()).unwrap();
                left.recv().unwrap();
            });
            // The thread lives on, but no longer in a handler.
            std::thread::sleep(Duration::from_millis(200));
        });
        wait.recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let named = |patience| stuck(patience).into_iter().filter(|(who, _)| *who == key).count();
        assert_eq!((named(Duration::from_millis(20)), named(Duration::from_secs(100))), (1, 0));
        leave.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(named(Duration::ZERO), 0);
        thread.join().unwrap();
    }
}
