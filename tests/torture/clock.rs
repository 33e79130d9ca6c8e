//! False clocks: a worker's time of day is off by an hour, and the machine's time goes on for the record.
//!
//! The program brings its own `clock_gettime`, which the linker takes instead of the C library's; all of Rust's clocks come through
//! it. Only the time of day is falsified: the monotonic clock of a real machine cannot be off either.

use std::sync::OnceLock;

/// Names by how many seconds the time of day of a worker process is off.
pub const OFFSET: &str = "LONGHAUL_TORTURE_CLOCK_OFFSET";

/// How far clocks are off: one in three is right.
pub const OFFSETS: [i64; 3] = [0, 3600, -3600];

static OFF_BY: OnceLock<i64> = OnceLock::new();

/// Falsifies this process's time of day from now on, as its environment demands.
pub fn falsify() {
    let seconds = std::env::var(OFFSET).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let _ = OFF_BY.set(seconds);
}

/// Nanoseconds by the machine's monotonic clock, which all its processes share.
pub fn machine_nanos() -> u128 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    u128::from(now.tv_sec.unsigned_abs()) * 1_000_000_000 + u128::from(now.tv_nsec.unsigned_abs())
}

/// What Rust's clocks call.
///
/// # Safety
/// As the C library's: `time` points to a timespec.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's promise is the kernel's demand.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if answer == 0 && clock == libc::CLOCK_REALTIME {
        // SAFETY: the kernel has just written there.
        unsafe { (*time).tv_sec += OFF_BY.get().copied().unwrap_or(0) };
    }
    answer as libc::c_int
}
