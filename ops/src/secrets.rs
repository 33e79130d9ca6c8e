//! Keeps a process's own environment from the programs that it runs for others.
//!
//! Programs are given a small environment of their own. But on Linux the one with which a process was started stays readable
//! in `/proc`, for its user: a program that prints a file could be told to print that. So the process is closed to others of
//! its user, and because root is not kept out by that, what looks like a secret is overwritten where it stands.

/// Parts of names whose values are overwritten.
#[cfg(target_os = "linux")]
const SECRET: &[&str] = &["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "DATABASE_URL", "_KEY", "DSN"];

/// To be called when all that is needed of the environment has been read, and before programs run.
#[cfg(target_os = "linux")]
pub(crate) fn hide() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: prctl with these arguments only sets a property of the calling process. `environ` is the list of the process,
    // ended by a null pointer, whose texts are writable and stay where they are; nothing here sets variables, which alone
    // could change the list. Values are overwritten byte by byte up to their end, so that every text stays a text.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = std::ffi::CStr::from_ptr(*entry).to_bytes();
            let name_ends = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
            let (length, secret) = (text.len(), is_secret(&text[..name_ends]));
            for at in (name_ends + 1..length).filter(|_| secret) {
                (*entry).add(at).write(b'x' as libc::c_char);
            }
            entry = entry.add(1);
        }
    }
}

/// Elsewhere there is nothing of the kind.
#[cfg(not(target_os = "linux"))]
pub(crate) fn hide() {}

#[cfg(target_os = "linux")]
fn is_secret(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_uppercase();
    SECRET.iter().any(|part| name.contains(part))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_one() {
        for name in ["DATABASE_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "api_key"] {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in ["PATH", "HOME", "PGHOST", "LANG", "LONGHAUL_SCHEMA"] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }
}
