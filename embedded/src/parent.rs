//! Child processes that do not outlive this one, even when it is killed.

use std::process::Command;

/// The system sends the child this signal when the thread that starts it ends, and so when the process does.
#[cfg(target_os = "linux")]
pub fn end_with_parent(command: &mut Command, signal: libc::c_int) {
    use std::os::unix::process::CommandExt;
    let prepare = move || {
        // SAFETY: prctl with these arguments only sets a property of the calling process, and is async-signal-safe.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure runs between fork and exec, and calls nothing but prctl.
    unsafe { command.pre_exec(prepare) };
}

/// Other systems know nothing of the kind: children go on until they end by themselves or somebody stops them.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_: &mut Command, _: libc::c_int) {}
