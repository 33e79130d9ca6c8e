//! Who may connect to a private server: by its socket whoever can enter the socket's folder, which is private; by TCP whoever
//! knows the password.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{EmbeddedError, place::own_file};

const RULES: &str = "\
# Written anew at each start. The folder of the socket is private, so that a socket needs no password.
local all         all trust
local replication all trust
host  all         all 127.0.0.1/32 scram-sha-256
host  all         all ::1/128      scram-sha-256
";

/// Writes the rules of who may connect; the file is not in the server's own folder, which belongs to its user.
pub(super) fn write_rules(folder: &Path) -> Result<PathBuf, EmbeddedError> {
    let file = folder.join("pg_hba.conf");
    let failed = || EmbeddedError::io(format!("writing {}", file.display()));
    let mut handle = own_file(&file, 0o644)?;
    handle.set_len(0).map_err(failed())?;
    handle.write_all(RULES.as_bytes()).map_err(failed())?;
    Ok(file)
}

/// The password for TCP: made once, and kept in a file that only the user of this process can read.
pub(super) fn password(folder: &Path) -> Result<(String, PathBuf), EmbeddedError> {
    let file = folder.join("password");
    let failed = || EmbeddedError::io(format!("reading {}", file.display()));
    let mut handle = own_file(&file, 0o600)?;
    let mut text = String::new();
    (&mut handle).take(1000).read_to_string(&mut text).map_err(failed())?;
    let known = text.trim();
    if known.len() >= 32 && known.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok((known.to_owned(), file));
    }
    let made = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    handle.set_len(0).and_then(|()| writeln!(handle, "{made}")).map_err(failed())?;
    Ok((made, file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_password_is_made_once_and_for_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let (first, file) = password(folder.path()).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(password(folder.path()).unwrap().0, first);
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
