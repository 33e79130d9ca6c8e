//! The ordinary user as whom a server runs that root starts: PostgreSQL refuses to run as root.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use super::EmbeddedError;

/// A user of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// `None` unless this process is root's; then the user that `LONGHAUL_PG_USER` names, or `postgres`, or `nobody`.
    pub(super) fn needed() -> Result<Option<Self>, EmbeddedError> {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(None);
        }
        let named = std::env::var("LONGHAUL_PG_USER").ok();
        let names: Vec<&str> = match &named {
            Some(name) => vec![name.as_str()],
            None => vec!["postgres", "nobody"],
        };
        names.iter().find_map(|name| Self::named(name)).map(Some).ok_or_else(|| {
            EmbeddedError::Unsupported(format!(
                "PostgreSQL does not run as root, and there is no user {}; name one in LONGHAUL_PG_USER",
                names.join(" or ")
            ))
        })
    }

    fn named(name: &str) -> Option<Self> {
        let text = std::fs::read_to_string("/etc/passwd").ok()?;
        text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields[..] {
                [user, _, uid, gid, ..] if user == name => {
                    Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
                }
                _ => None,
            }
        })
    }

    /// Runs a command as this user.
    pub(super) fn run_as(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Whether this user can get to a folder: all folders above it must let others pass.
    pub(super) fn can_reach(self, folder: &Path) -> bool {
        let mut test = Command::new("test");
        test.arg("-x").arg(folder).current_dir("/");
        self.run_as(&mut test);
        test.status().is_ok_and(|status| status.success())
    }
}

/// Sends a signal; false when there is no such process.
pub(super) fn signal(pid: u32, signal: libc::c_int) -> bool {
    // SAFETY: kill has no memory preconditions.
    i32::try_from(pid).is_ok_and(|pid| unsafe { libc::kill(pid, signal) } == 0)
}
