//! Which share of the machine's processors this process uses.

use std::time::{Duration, Instant};

/// Processor time used between two looks.
#[derive(Debug)]
pub(crate) struct CpuShare {
    at: Instant,
    used: Duration,
    busy: f64,
}

/// Looks that follow each other more closely are answered with the last figure.
const SPAN: Duration = Duration::from_millis(200);

impl Default for CpuShare {
    fn default() -> Self {
        Self { at: Instant::now(), used: used(), busy: 0.0 }
    }
}

impl CpuShare {
    /// The part of all processors that this process used lately, from 0 to 1.
    pub(crate) fn busy(&mut self) -> f64 {
        let elapsed = self.at.elapsed();
        if elapsed >= SPAN {
            let used = used();
            let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
            self.busy = (used.saturating_sub(self.used).as_secs_f64() / elapsed.as_secs_f64() / processors).min(1.0);
            self.at = Instant::now();
            self.used = used;
        }
        self.busy
    }
}

/// Processor time of this process so far; zero where the system does not tell.
fn used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the struct that it is given, and nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } != 0;
    if failed { Duration::ZERO } else { Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let mut share = CpuShare::default();
        let until = Instant::now() + SPAN * 2;
        let mut n = 0_u64;
        while Instant::now() < until {
            n = std::hint::black_box(n + 1);
        }
        assert!(share.busy() > 0.0);
    }
}
