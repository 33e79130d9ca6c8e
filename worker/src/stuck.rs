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

use longhaul_schema::calls::{AttemptKey, FlowStep};

/// A handler that keeps its thread for longer than this is named.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a thread of the runtime is polling. Written by that thread alone, read by the watch.
#[derive(Debug, Default)]
struct Seat {
    /// Milliseconds since the watch began, plus one; 0: nothing.
    since: AtomicU64,
    /// Set anew when another attempt takes the seat.
    attempt: Mutex<Option<(AttemptKey, Arc<FlowStep>)>>,
}

struct Watch {
    began: Instant,
    seats: Mutex<Vec<Weak<Seat>>>,
    /// When the process was seen to go on after it had been stopped: what nobody polled then is nobody's fault.
    thawed: AtomicU64,
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
        Watch { began: Instant::now(), seats: Mutex::default(), thawed: AtomicU64::new(0) }
    });
    let seat = Arc::new(Seat::default());
    watch.seats.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&seat));
    seat
}

fn now() -> u64 {
    WATCH.get().map_or(1, |watch| watch.began.elapsed().as_millis() as u64 + 1)
}

/// Polls something for an attempt, in sight of the watch.
pub(crate) fn watched<T>(key: AttemptKey, step: &Arc<FlowStep>, poll: impl FnOnce() -> T) -> T {
    SEAT.with(|seat| {
        {
            let mut attempt = seat.attempt.lock().unwrap_or_else(PoisonError::into_inner);
            if attempt.as_ref().is_none_or(|(known, _)| *known != key) {
                *attempt = Some((key, step.clone()));
            }
        }
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
pub(crate) fn stuck(patience: Duration) -> Vec<(AttemptKey, Arc<FlowStep>, Duration)> {
    let Some(watch) = WATCH.get() else { return Vec::new() };
    let now = now();
    let mut seats = watch.seats.lock().unwrap_or_else(PoisonError::into_inner);
    seats.retain(|seat| seat.strong_count() > 0);
    seats
        .iter()
        .filter_map(Weak::upgrade)
        .filter_map(|seat| {
            let since = seat.since.load(Relaxed);
            let held = Duration::from_millis(now.saturating_sub(since.max(watch.thawed.load(Relaxed))));
            let attempt = seat.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (key, step) = attempt.filter(|_| since != 0 && held >= patience)?;
            Some((key, step, held))
        })
        .collect()
}

/// A sleep of the watch that took so long was no sleep: the whole process stood still.
fn was_frozen(slept: Duration) -> bool {
    slept > PATIENCE * 2
}

fn look_around() {
    loop {
        let asleep = Instant::now();
        std::thread::sleep(PATIENCE);
        let slept = asleep.elapsed();
        if was_frozen(slept) {
            tracing::warn!(seconds = slept.as_secs(), "this process stood still: it was stopped, or its machine was");
            if let Some(watch) = WATCH.get() {
                watch.thawed.store(now(), Relaxed);
            }
        }
        for (key, step, held) in stuck(PATIENCE) {
            tracing::warn!(
                run = %key.step.run_id, step = %step.name, handler = %step.handler, attempt = key.attempt, seconds = held.as_secs(),
                "a handler blocks its thread: it must await, or do such work in tokio::task::spawn_blocking"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use longhaul_schema::calls::StepKey;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_watch_that_overslept_means_that_the_process_was_frozen() {
        assert!(was_frozen(Duration::from_secs(500)));
        assert!(!was_frozen(PATIENCE + Duration::from_millis(50)), "a busy machine");
    }

    #[test]
    fn a_handler_that_blocks_its_thread_is_named_until_it_gives_it_back() {
        let key = AttemptKey { step: StepKey { run_id: Uuid::now_v7(), seq: 7 }, attempt: 3 };
        let step = Arc::new(FlowStep {
            seq: 7,
            flow: "f".into(),
            version: 1,
            name: "s".into(),
            handler: "h".into(),
            max_attempts: 1,
            timeout: None,
            parameters: None,
            checkpoints: false,
        });
        let (entered, wait) = std::sync::mpsc::channel();
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            watched(key, &step, || {
                entered.send(()).unwrap();
                left.recv().unwrap();
            });
            // The thread lives on, but no longer in a handler.
            std::thread::sleep(Duration::from_millis(200));
        });
        wait.recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let named = |patience| stuck(patience).into_iter().filter(|(who, _, _)| *who == key).count();
        assert_eq!((named(Duration::from_millis(20)), named(Duration::from_secs(100))), (1, 0));
        leave.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(named(Duration::ZERO), 0);
        thread.join().unwrap();
    }
}
