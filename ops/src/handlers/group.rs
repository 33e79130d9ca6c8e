//! A program and its children, which end together.

use std::{
    collections::BTreeSet,
    process::ExitStatus,
    sync::{Mutex, Once},
};

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// The process groups that run now. A process that leaves without unwinding, as at a second SIGTERM, ends them on its way out.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

static AT_EXIT: Once = Once::new();

/// The program and its children; they are killed when this is dropped before the program has ended.
pub(super) struct Group(Child);

impl Group {
    /// Starts the program in a group of its own, so that its children can be killed with it.
    pub(super) fn start(command: &mut Command) -> std::io::Result<Self> {
        // SAFETY: registers a function without arguments, to be called at a normal exit.
        AT_EXIT.call_once(|| unsafe {
            libc::atexit(kill_all);
        });
        command.process_group(0).kill_on_drop(true);
        // Locked over the start: nobody may leave between it and the note.
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let group = Self(command.spawn()?);
        running.extend(group.number());
        Ok(group)
    }

    /// Its number, as long as the program has not been waited for: it is still its own then.
    fn number(&self) -> Option<i32> {
        self.0.id().and_then(|id| i32::try_from(id).ok())
    }

    pub(super) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take())
    }

    /// Waits for the program. What it left in the background goes on.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let number = self.number();
        let status = self.0.wait().await;
        if status.is_ok() {
            forget(number);
        }
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let number = self.number();
        if let Some(group) = number {
            kill(group);
        }
        forget(number);
    }
}

fn forget(number: Option<i32>) {
    if let Some(number) = number {
        RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&number);
    }
}

fn kill(group: i32) {
    // SAFETY: kill has no memory preconditions.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

extern "C" fn kill_all() {
    let running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    running.iter().copied().for_each(kill);
    // Kept locked: whoever would start another program now waits until the process is gone.
    std::mem::forget(running);
}
