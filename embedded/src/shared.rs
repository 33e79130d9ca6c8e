//! Servers for tests, examples and benchmarks: in a temporary folder, gone with the process.

use std::{
    path::PathBuf,
    sync::{Mutex, OnceLock},
};

use longhaul_schema::Config;

use super::{Cluster, ClusterOptions, EmbeddedError};

/// A new folder below the system's temporary one, through which the server's user can pass.
pub fn temporary_folder() -> std::io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("longhaul-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

static SHARED: OnceLock<Config> = OnceLock::new();
static PRIVATE: Mutex<Option<(Cluster, PathBuf)>> = Mutex::new(None);

/// The server that all tests of a process share: the one that `DATABASE_URL` names, or else a private one, which ends with the
/// process. The private one runs without `fsync`: tests kill processes, not machines.
///
/// Panics when there is no server to be had: no test could go on.
///
/// ```no_run
/// let config = longhaul_embedded::shared_for_tests();
/// ```
pub fn shared_for_tests() -> Config {
    SHARED
        .get_or_init(|| match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Config::from_url(&url).expect("DATABASE_URL"),
            // A thread of its own, because tests have their own runtimes.
            _ => {
                std::thread::spawn(|| start_private().expect("a private PostgreSQL server")).join().expect("its thread")
            }
        })
        .clone()
}

fn start_private() -> Result<Config, EmbeddedError> {
    let folder = temporary_folder().map_err(EmbeddedError::io("making a temporary folder"))?.keep();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EmbeddedError::io("a runtime"))?;
    let options = ClusterOptions::new(&folder).set("fsync", "off").set("synchronous_commit", "off");
    let cluster = runtime.block_on(options.set("max_connections", "400").set("shared_buffers", "256MB").start())?;
    let config = cluster.config()?;
    if let Ok(mut private) = PRIVATE.lock() {
        *private = Some((cluster, folder));
    }
    // SAFETY: registers a function without arguments, to be called at a normal exit.
    unsafe { libc::atexit(stop_private) };
    Ok(config)
}

extern "C" fn stop_private() {
    let Some((mut cluster, folder)) = PRIVATE.lock().ok().and_then(|mut private| private.take()) else { return };
    // On a thread of its own: at the end of a process the values of its main thread are gone, a runtime's among them.
    let killing = std::thread::Builder::new().spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(cluster.kill());
        }
    });
    // Should it panic, the folder is removed all the same.
    let _ = killing.map(std::thread::JoinHandle::join);
    // What cannot be removed stays in the temporary folder.
    let _ = std::fs::remove_dir_all(folder);
}
