//! The programs that `command` may run: found once, when the worker starts, so that nothing a flow says can change which
//! file a name means.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use longhaul_schema::Error;

/// Names, as flows say them, and the files that they mean.
#[derive(Debug)]
pub(super) struct Programs {
    files: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// Finds them: a name without a slash in the worker's `PATH`, one with a slash from the worker's folder.
    pub(super) fn find(names: &[String]) -> Result<Self, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
        let found = names.iter().map(|name| {
            let file = if name.contains('/') {
                std::path::absolute(name).ok().filter(|file| is_program(file))
            } else {
                folders.iter().map(|folder| folder.join(name)).find(|file| is_program(file))
            };
            let file = file.ok_or_else(|| {
                Error::Invalid(format!(
                    "program {name:?} is to be allowed, but is not there: {}",
                    if name.contains('/') {
                        "it is no program".into()
                    } else {
                        format!("looked in {}", path.display())
                    }
                ))
            })?;
            Ok((name.clone(), file))
        });
        Ok(Self { files: found.collect::<Result<_, Error>>()? })
    }

    pub(super) fn file(&self, name: &str) -> Option<&Path> {
        self.files.get(name).map(PathBuf::as_path)
    }

    /// All names, for messages.
    pub(super) fn names(&self) -> String {
        self.files.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_once_and_absolutely() {
        let programs = Programs::find(&["sh".into()]).unwrap();
        let file = programs.file("sh").unwrap();
        assert!(file.is_absolute() && file.ends_with("sh"), "{}", file.display());
        assert!(programs.file("/bin/sh").is_none() && programs.file("../sh").is_none());
        for missing in ["no-such-program", "./no-such-program", "/etc/passwd", ""] {
            let error = Programs::find(&[missing.into()]).unwrap_err().to_string();
            assert!(error.contains("is not there"), "{error}");
        }
    }
}
