//! The ordinary user as whom a server runs that root starts: PostgreSQL refuses to run as root.

use std::{
    ffi::CString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::EmbeddedError;

/// A user of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
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

    /// Gives a file or folder to this user.
    pub(super) fn own(self, path: &Path) -> Result<(), EmbeddedError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(EmbeddedError::io(format!("chown {}", path.display())))
    }

    /// Whether this user can get to a folder: all folders above it must let others pass.
    pub(super) fn can_reach(self, folder: &Path) -> bool {
        let mut test = Command::new("test");
        test.arg("-x").arg(folder).current_dir("/");
        self.run_as(&mut test);
        test.status().is_ok_and(|status| status.success())
    }
}

/// A folder for the server's files that the owner can reach: `wanted`, or one below `/var/tmp` that belongs to it by name.
pub(super) fn reachable(owner: Option<Owner>, wanted: &Path) -> Result<PathBuf, EmbeddedError> {
    std::fs::create_dir_all(wanted).map_err(EmbeddedError::io(format!("making {}", wanted.display())))?;
    let wanted = wanted.canonicalize().map_err(EmbeddedError::io(format!("finding {}", wanted.display())))?;
    let Some(owner) = owner else { return Ok(wanted) };
    if owner.can_reach(&wanted) {
        return Ok(wanted);
    }
    let name = wanted.to_string_lossy().replace('/', "-");
    let other = PathBuf::from(format!("/var/tmp/longhaul{name}"));
    std::fs::create_dir_all(&other).map_err(EmbeddedError::io(format!("making {}", other.display())))?;
    tracing::warn!(wanted = %wanted.display(), used = %other.display(), "the server's user cannot reach the data folder; another is used");
    Ok(other)
}

/// Sends a signal; false when there is no such process.
pub(super) fn signal(pid: u32, signal: libc::c_int) -> bool {
    // SAFETY: kill has no memory preconditions.
    i32::try_from(pid).is_ok_and(|pid| unsafe { libc::kill(pid, signal) } == 0)
}

/// Whether a Unix socket in this folder would have a path that fits.
pub(super) fn socket_fits(folder: &Path) -> bool {
    CString::new(folder.as_os_str().as_encoded_bytes())
        .is_ok_and(|path| path.as_bytes().len() + "/.s.PGSQL.65535.lock".len() < 104)
}
