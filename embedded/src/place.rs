//! Folders and files of a private server, made so that nobody else can choose what they are.
//!
//! Root works here for an ordinary user, so each step looks at what is really there: a folder above that somebody else could
//! exchange is not used, links are not followed, and what exists must belong to us.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Component, Path, PathBuf},
};

use super::{EmbeddedError, owner::Owner};

/// Where root keeps what the server's user cannot reach elsewhere: nobody but root makes folders there.
const STATE: &str = "/var/lib/longhaul";

/// The same for sockets whose paths would be too long.
const RUN: &str = "/run/longhaul";

/// A folder for the server's files: `wanted`, or for root one below [`STATE`] when the server's user cannot reach `wanted`, or
/// somebody else could exchange it.
pub(super) fn folder(owner: Option<Owner>, wanted: &Path) -> Result<PathBuf, EmbeddedError> {
    folder_or_below(owner, wanted, Path::new(STATE))
}

fn folder_or_below(owner: Option<Owner>, wanted: &Path, state: &Path) -> Result<PathBuf, EmbeddedError> {
    let making = || EmbeddedError::io(format!("making {}", wanted.display()));
    let Some(owner) = owner else {
        std::fs::create_dir_all(wanted).map_err(making())?;
        return wanted.canonicalize().map_err(EmbeddedError::io(format!("finding {}", wanted.display())));
    };
    let (there, missing) = existing(wanted)?;
    let target = there.join(&missing);
    let objection = match objection(&there) {
        Some(objection) => objection,
        None => {
            std::fs::create_dir_all(&target).map_err(making())?;
            if owner.can_reach(&target) {
                return Ok(target);
            }
            "the server's user cannot reach it".into()
        }
    };
    if target.join("postgres/PG_VERSION").exists() {
        return Err(EmbeddedError::Unsupported(format!(
            "{} holds a database cluster, but root cannot use it: {objection}; change its owner or rights, or move it",
            target.display()
        )));
    }
    // One folder for each path: the separators are written so that two paths never give one name.
    let name = target.to_string_lossy().replace('%', "%25").replace('/', "%2F");
    let other = state.join(name);
    root_folder(state)?;
    root_folder(&other)?;
    tracing::warn!(wanted = %target.display(), used = %other.display(), reason = %objection, "another folder is used");
    Ok(other)
}

/// The part of a path that exists, with links resolved, and the rest.
fn existing(path: &Path) -> Result<(PathBuf, PathBuf), EmbeddedError> {
    let path = std::path::absolute(path).map_err(EmbeddedError::io(format!("finding {}", path.display())))?;
    for there in path.ancestors() {
        if let Ok(found) = there.canonicalize() {
            let missing = path.strip_prefix(there).unwrap_or(Path::new("")).to_owned();
            if missing.components().all(|part| matches!(part, Component::Normal(_))) {
                return Ok((found, missing));
            }
        }
    }
    Err(EmbeddedError::Unsupported(format!("{} is no path that can be made", path.display())))
}

/// Why root must not work below a folder: whoever owns a folder on the way, or may write to one, can exchange what is in it.
fn objection(folder: &Path) -> Option<String> {
    folder.ancestors().find_map(|part| {
        let Ok(found) = std::fs::symlink_metadata(part) else {
            return Some(format!("{} cannot be looked at", part.display()));
        };
        let (mode, name) = (found.mode(), part.display());
        let sticky = mode & 0o1000 != 0;
        if found.uid() != 0 {
            Some(format!("{name} belongs to user {}, who could exchange it", found.uid()))
        } else if !sticky && (mode & 0o002 != 0 || (mode & 0o020 != 0 && found.gid() != 0)) {
            Some(format!("others than root may write to {name}"))
        } else {
            None
        }
    })
}

/// Makes a folder that root alone writes to. One that is there already must be such a folder.
fn root_folder(folder: &Path) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(EmbeddedError::io(format!("making {}", folder.display()))(error));
        }
        _ => {}
    }
    let link = std::fs::symlink_metadata(folder).is_ok_and(|found| !found.is_dir());
    match objection(folder) {
        None if !link => Ok(()),
        objection => Err(EmbeddedError::Unsupported(format!(
            "{} cannot be trusted: {}",
            folder.display(),
            objection.unwrap_or_else(|| "it is no folder".into())
        ))),
    }
}

/// Makes a folder that only its owner can enter. One that is there already must belong to us or to the owner.
pub(super) fn private_folder(folder: &Path, owner: Option<Owner>) -> Result<(), EmbeddedError> {
    let making = || EmbeddedError::io(format!("making {}", folder.display()));
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(making()(error)),
        _ => {}
    }
    let handle = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(folder)
        .map_err(making())?;
    let found = handle.metadata().map_err(making())?;
    let ours = [Some(user()), owner.map(|owner| owner.uid)].contains(&Some(found.uid()));
    if !ours {
        return Err(foreign(folder, found.uid()));
    }
    if let Some(owner) = owner {
        fchown(&handle, Some(owner.uid), Some(owner.gid)).map_err(making())?;
    }
    handle.set_permissions(Permissions::from_mode(0o700)).map_err(making())
}

/// Opens or makes a file of ours, with these rights. It must be a plain file with one name that belongs to us.
pub(super) fn own_file(file: &Path, mode: u32) -> Result<File, EmbeddedError> {
    let opening = || EmbeddedError::io(format!("opening {}", file.display()));
    let handle = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(file)
        .map_err(opening())?;
    let found = handle.metadata().map_err(opening())?;
    if found.uid() != user() {
        return Err(foreign(file, found.uid()));
    }
    if !found.is_file() || found.nlink() != 1 {
        return Err(EmbeddedError::Unsupported(format!("{} is no plain file, or has several names", file.display())));
    }
    handle.set_permissions(Permissions::from_mode(mode)).map_err(opening())?;
    Ok(handle)
}

fn foreign(path: &Path, uid: u32) -> EmbeddedError {
    EmbeddedError::Unsupported(format!("{} belongs to user {uid}; nothing in it is touched", path.display()))
}

/// Whether this process may do everything.
pub(super) fn is_root() -> bool {
    user() == 0
}

fn user() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// A folder for sockets outside of `folder`, whose path would be too long, and what keeps it if it is temporary.
pub(super) fn short_folder(
    owner: Option<Owner>,
    folder: &Path,
) -> Result<(PathBuf, Option<tempfile::TempDir>), EmbeddedError> {
    let hash = folder.as_os_str().as_encoded_bytes().iter();
    let hash = hash.fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(*byte));
    let parent = match owner {
        Some(_) => root_folder(Path::new(RUN)).is_ok().then(|| PathBuf::from(RUN)),
        // Made by the system for this user alone.
        None => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| {
            std::fs::symlink_metadata(folder).is_ok_and(|f| f.is_dir() && f.uid() == user() && f.mode() & 0o077 == 0)
        }),
    };
    if let Some(sockets) = parent.map(|parent| parent.join(format!("longhaul-{hash:016x}"))).filter(|s| socket_fits(s))
    {
        private_folder(&sockets, owner)?;
        return Ok((sockets, None));
    }
    let temporary = tempfile::Builder::new().prefix("longhaul-").tempdir_in("/tmp");
    let temporary = temporary.map_err(EmbeddedError::io("making a folder in /tmp"))?;
    private_folder(temporary.path(), owner)?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// Whether a Unix socket in this folder would have a path that fits. (A comma would part it into two hosts.)
pub(super) fn socket_fits(folder: &Path) -> bool {
    let path = folder.as_os_str().as_encoded_bytes();
    path.len() + "/.s.PGSQL.65535.lock".len() < 104 && !path.contains(&b',')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> Option<Owner> {
        Owner::needed().ok().flatten()
    }

    #[test]
    fn links_and_strange_files_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        std::fs::create_dir(&victim).unwrap();
        std::fs::set_permissions(&victim, Permissions::from_mode(0o755)).unwrap();
        symlink(&victim, &link).unwrap();
        private_folder(&link, root()).unwrap_err();
        let untouched = std::fs::metadata(&victim).unwrap();
        assert_eq!((untouched.mode() & 0o777, untouched.uid()), (0o755, user()));

        let (file, link) = (folder.path().join("file"), folder.path().join("log"));
        std::fs::write(&file, "mine").unwrap();
        symlink(&file, &link).unwrap();
        own_file(&link, 0o600).unwrap_err();
        std::fs::hard_link(&file, folder.path().join("second")).unwrap();
        own_file(&file, 0o600).unwrap_err();
        own_file(&victim, 0o600).unwrap_err();
        let own = own_file(&folder.path().join("own"), 0o600).unwrap();
        assert_eq!(own.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn root_uses_no_folder_that_somebody_else_could_exchange() {
        let Some(owner) = root() else { return };
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let state = folder.path().join("state");
        let good = folder.path().join("good");
        assert_eq!(folder_or_below(Some(owner), &good, &state).unwrap(), good);

        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(12345), None).unwrap();
        let used = folder_or_below(Some(owner), &theirs.join("data"), &state).unwrap();
        assert!(used.starts_with(&state), "{}", used.display());
        assert!(!theirs.join("data").exists(), "nothing was made there");

        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(folder_or_below(Some(owner), &open.join("data"), &state).unwrap().starts_with(&state));

        // A state folder that somebody else made first is refused.
        let foreign = folder.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(12345), None).unwrap();
        folder_or_below(Some(owner), &open.join("data"), &foreign).unwrap_err();
        symlink("/etc", folder.path().join("linked")).unwrap();
        folder_or_below(Some(owner), &open.join("data"), &folder.path().join("linked")).unwrap_err();

        // A cluster that is there is not forgotten silently.
        std::fs::create_dir_all(theirs.join("data/postgres")).unwrap();
        std::fs::write(theirs.join("data/postgres/PG_VERSION"), "15\n").unwrap();
        let error = folder_or_below(Some(owner), &theirs.join("data"), &state).unwrap_err().to_string();
        assert!(error.contains("belongs to user 12345"), "{error}");
    }
}
