//! The signals that end a process.

/// Completes at the first SIGTERM or SIGINT (Ctrl-C elsewhere than on Unix). From then on a second signal ends the process at
/// once with exit code 130: whatever it had claimed goes to others when its leases expire.
pub async fn shutdown_signal() {
    next_signal().await;
    tracing::info!("stopping; a second signal ends at once");
    tokio::spawn(async {
        next_signal().await;
        tracing::warn!("ended by a second signal");
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn next_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be watched; the process ends only when it is killed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(not(unix))]
async fn next_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
