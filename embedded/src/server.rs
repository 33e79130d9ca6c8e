//! The process of a server.

use std::{
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{oneshot, watch};

use super::{EmbeddedError, owner};

/// A running server. Its thread waits for it, so that "ends with its parent" means the process and not some thread of it.
#[derive(Debug)]
pub(super) struct Server {
    pid: u32,
    /// Whether the system may have given the id to another process. No signal is sent from then on.
    reaped: Arc<Mutex<bool>>,
    ended: watch::Receiver<bool>,
}

impl Server {
    pub(super) async fn spawn(mut command: Command) -> Result<Self, EmbeddedError> {
        let (ended_out, ended) = watch::channel(false);
        let (pid_out, pid) = oneshot::channel();
        let reaped = Arc::new(Mutex::new(false));
        let reaped_there = reaped.clone();
        std::thread::Builder::new()
            .name("postgres".into())
            .spawn(move || match command.spawn() {
                Ok(child) => {
                    let _ = pid_out.send(Ok(child.id()));
                    wait(child, &reaped_there);
                    let _ = ended_out.send(true);
                }
                Err(error) => {
                    let _ = pid_out.send(Err(error));
                }
            })
            .map_err(EmbeddedError::io("starting a thread"))?;
        let pid = pid
            .await
            .map_err(|e| EmbeddedError::NotStarted(e.to_string()))?
            .map_err(EmbeddedError::io("starting postgres"))?;
        Ok(Self { pid, reaped, ended })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal while the process is surely ours.
    pub(super) fn signal(&self, signal: libc::c_int) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            owner::signal(self.pid, signal);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Completes when it has ended.
    pub(super) async fn ended(&mut self) {
        // The sender is dropped only after it has sent.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// Waits for the end first, and lets the system give the id away only while nobody can send a signal to it.
fn wait(mut child: Child, reaped: &Mutex<bool>) {
    loop {
        // SAFETY: an all-zero siginfo_t is valid, and waitid only writes to it.
        let waited = unsafe {
            let mut information: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, child.id(), &mut information, libc::WEXITED | libc::WNOWAIT)
        };
        if waited == 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            break;
        }
    }
    let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.wait();
    *reaped = true;
}
