//! One server for a folder: whoever uses it holds a lock on a file in it.

use std::{
    fs::TryLockError,
    io::{Read, Write},
    path::Path,
};

use super::{EmbeddedError, place::own_file};

/// Held for as long as a cluster is in use. The system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: std::fs::File,
}

impl FolderLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self, EmbeddedError> {
        let path = folder.join("lock");
        let failed = || EmbeddedError::io(format!("locking {}", path.display()));
        let mut file = own_file(&path, 0o600)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed())?;
                write!(file, "{}", std::process::id()).map_err(failed())?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut file).take(20).read_to_string(&mut pid);
                Err(EmbeddedError::Busy { folder: folder.display().to_string(), pid: pid.trim().to_owned() })
            }
            Err(TryLockError::Error(error)) => Err(failed()(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        FolderLock::take(folder.path()).unwrap();
    }
}
