//! A server that an earlier process left running in the same folder.
//!
//! Process ids are given again, after a restart of the machine for instance to the system's own PostgreSQL. So a process is
//! taken for the folder's server only if it is a PostgreSQL server that works in this very folder.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::owner::signal;

/// Stops the folder's server, if there is one; waits so long at most.
pub(super) fn stop(data: &Path, limit: Duration) {
    let Some(pid) = server_of(data) else { return };
    tracing::warn!(pid, "stopping the server that an earlier process left running");
    let started = Instant::now();
    while server_of(data) == Some(pid) && started.elapsed() < limit {
        signal(pid, if started.elapsed() < limit / 2 { libc::SIGINT } else { libc::SIGQUIT });
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The server that runs in this folder.
fn server_of(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    // Line 2 is the folder as the server was told it.
    let named = Path::new(lines.next()?).canonicalize().ok()?;
    (named == data.canonicalize().ok()? && runs_in(pid, &named)).then_some(pid)
}

/// Whether a process is a PostgreSQL server that works in this folder: servers make it their working folder.
fn runs_in(pid: u32, data: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    if Path::new("/proc/self").exists() {
        return std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim().starts_with("postgres"))
            && std::fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == data);
    }
    // Elsewhere the command line tells.
    let listed = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    listed.is_ok_and(|output| {
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.contains("postgres") && line.contains(&format!("-D {} ", data.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_got_the_id_since_is_left_alone() {
        let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // A process that calls itself postgres and works in another folder, as another server of the machine does.
        let program = other.path().join("postgres");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut process = Command::new(&program).arg("600").current_dir(other.path()).spawn().unwrap();
        for named in [ours.path(), other.path()] {
            let text = format!("{}\n{}\n1700000000\n5432\n", process.id(), named.display());
            std::fs::write(ours.path().join("postmaster.pid"), text).unwrap();
            stop(ours.path(), Duration::from_secs(5));
            assert!(process.try_wait().unwrap().is_none(), "it lives on");
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
