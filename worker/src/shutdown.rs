//! The signals that end a process.

use std::time::{Duration, Instant};

/// A signal that comes so soon after the first one is the same: whoever ends a group of processes, and the process besides, sends it
/// twice.
const SAME: Duration = Duration::from_millis(500);

/// Completes at the first SIGTERM or SIGINT (Ctrl-C elsewhere than on Unix). From then on a second signal ends the process at
/// once with exit code 130: whatever it had claimed goes to others when its leases expire. One that comes within half a second
/// of the first does not count.
pub async fn shutdown_signal() {
    let Some(mut signals) = Signals::watch() else {
        tracing::error!("signals cannot be watched; the process ends only when it is killed");
        return std::future::pending().await;
    };
    signals.next().await;
    let first = Instant::now();
    tracing::info!("stopping; a second signal ends at once");
    tokio::spawn(async move {
        loop {
            signals.next().await;
            if !is_same(first, Instant::now()) {
                tracing::warn!("ended by a second signal");
                std::process::exit(130);
            }
        }
    });
}

fn is_same(first: Instant, second: Instant) -> bool {
    second.duration_since(first) < SAME
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn watch() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) = (signal(SignalKind::terminate()).ok()?, signal(SignalKind::interrupt()).ok()?);
        Some(Self { terminate, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn watch() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_sent_twice_at_once_counts_once() {
        let first = Instant::now();
        assert!(is_same(first, first + Duration::from_millis(1)));
        assert!(!is_same(first, first + Duration::from_secs(1)));
    }
}
