//! Finding the server programs of PostgreSQL.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::EmbeddedError;

/// Oldest release that is supported.
const OLDEST: u32 = 14;

/// The folder of `initdb` and `postgres`.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
    version: u32,
}

impl Binaries {
    /// Looks in the folder that `LONGHAUL_PG_BIN` names, then in `PATH`, at what `pg_config` says, in the folders where
    /// distributions install PostgreSQL (newest first), and where `ops/install-postgres` puts it.
    pub fn find() -> Result<Self, EmbeddedError> {
        if let Some(folder) = std::env::var_os("LONGHAUL_PG_BIN") {
            let folder = PathBuf::from(folder);
            return Self::at(&folder)?.ok_or_else(|| EmbeddedError::NoBinaries(folder.display().to_string()));
        }
        let candidates = candidates();
        for folder in &candidates {
            match Self::at(folder) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "passed over"),
            }
        }
        let looked: Vec<String> = candidates.iter().map(|c| c.display().to_string()).collect();
        Err(EmbeddedError::NoBinaries(looked.join(", ")))
    }

    /// The programs in this folder; `None` when they are not there.
    pub fn at(folder: &Path) -> Result<Option<Self>, EmbeddedError> {
        let (Ok(postgres), true) = (folder.join("postgres").canonicalize(), folder.join("initdb").exists()) else {
            return Ok(None);
        };
        // The programs find their other files from where they really are, so links to them are followed.
        let folder = postgres.parent().unwrap_or(folder).to_owned();
        let output =
            Command::new(&postgres).arg("--version").output().map_err(EmbeddedError::io("postgres --version"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text
            .split_whitespace()
            .find_map(|word| word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .ok_or_else(|| {
                EmbeddedError::Unsupported(format!("{} did not say its version: {text}", postgres.display()))
            })?;
        if version < OLDEST {
            return Err(EmbeddedError::Unsupported(format!(
                "{} is PostgreSQL {version}; {OLDEST} or newer is needed",
                postgres.display()
            )));
        }
        Ok(Some(Self { folder, version }))
    }

    /// Path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Major version, such as 16.
    pub fn version(&self) -> u32 {
        self.version
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    folders.retain(|folder| folder.join("postgres").exists());
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let mut installed = Vec::new();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(version) =
                name.to_str().and_then(|n| n.strip_prefix(prefix)).and_then(|v| v.parse::<u32>().ok())
            {
                installed.push((version, entry.path().join("bin")));
            }
        }
    }
    installed.sort_by(|a, b| b.cmp(a));
    folders.extend(installed.into_iter().map(|(_, folder)| folder));
    folders.extend(downloaded());
    folders
}

/// Where `ops/install-postgres` puts what it fetches from a package registry.
fn downloaded() -> Vec<PathBuf> {
    // Root runs nothing from a folder that may be another user's, as `HOME` is under sudo.
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .filter(|_| !super::place::is_root());
    let system = PathBuf::from("/var/cache/longhaul/postgresql/bin");
    cache.map(|cache| cache.join("longhaul/postgresql/bin")).into_iter().chain([system]).collect()
}
