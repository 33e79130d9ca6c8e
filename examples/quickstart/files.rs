//! Which files there are, and how a file's name travels as JSON.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A run's input: the path of a file. Unix names are bytes; those that are not UTF-8 travel as numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileInput {
    Path(String),
    PathBytes(Vec<u8>),
}

impl FileInput {
    fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Path(text.into()),
            None => Self::PathBytes(path.as_os_str().as_bytes().into()),
        }
    }

    pub fn path(&self) -> PathBuf {
        match self {
            Self::Path(text) => PathBuf::from(text),
            Self::PathBytes(bytes) => PathBuf::from(OsString::from_vec(bytes.clone())),
        }
    }

    /// For people: on one line, whatever the name holds.
    pub fn display(&self) -> String {
        self.path().to_string_lossy().escape_debug().collect()
    }
}

/// Folders that hold what was built or fetched, not what somebody made.
const PASSED_OVER: [&str; 4] = ["target", ".git", "node_modules", ".longhaul"];

/// All files below a folder, sorted; what cannot be entered or read is listed as well, and its run will say why it failed.
pub fn list(folder: &Path, data: &Path) -> std::io::Result<Vec<FileInput>> {
    let data = data.canonicalize()?;
    let mut found = Vec::new();
    let mut folders = vec![folder.canonicalize()?];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(_) => {
                found.push(folder);
                continue;
            }
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if path != data && !PASSED_OVER.iter().any(|skip| name == *skip) {
                    folders.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found.iter().map(|path| FileInput::new(path)).collect())
}
