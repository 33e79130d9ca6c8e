//! The server that all tests of a process share: the one that `DATABASE_URL` names, or a private one that ends with it.

use std::{
    path::PathBuf,
    sync::{Mutex, OnceLock},
};

use longhaul::Config;
use longhaul_ops::embedded::{Cluster, ClusterOptions};

static SERVER: OnceLock<Config> = OnceLock::new();
static PRIVATE: Mutex<Option<(Cluster, PathBuf)>> = Mutex::new(None);

/// Settings for the server's maintenance database.
pub fn admin_config() -> Config {
    SERVER
        .get_or_init(|| match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Config::from_url(&url).expect("DATABASE_URL"),
            _ => start_private(),
        })
        .clone()
}

/// Without fsync: these tests kill processes, not machines. A thread of its own, because tests have their own runtimes.
fn start_private() -> Config {
    std::thread::spawn(|| {
        let folder = new_cluster_folder("tests");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let cluster = runtime.block_on(
            ClusterOptions::new(&folder)
                .set("fsync", "off")
                .set("synchronous_commit", "off")
                .set("max_connections", "400")
                .set("shared_buffers", "256MB")
                .start(),
        );
        let cluster = cluster.expect("a private PostgreSQL server");
        let config = cluster.config().expect("its settings");
        *PRIVATE.lock().expect("lock") = Some((cluster, folder));
        // SAFETY: registers a function without arguments to be called at a normal exit.
        unsafe { libc::atexit(stop_private) };
        config
    })
    .join()
    .expect("the server's thread")
}

extern "C" fn stop_private() {
    let Some((mut cluster, folder)) = PRIVATE.lock().ok().and_then(|mut private| private.take()) else { return };
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(cluster.kill());
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// A new folder below the system's temporary one.
pub fn new_cluster_folder(purpose: &str) -> PathBuf {
    let folder =
        tempfile::Builder::new().prefix(&format!("longhaul-{purpose}-")).tempdir().expect("a temporary folder");
    // The server's user must be able to pass through it.
    #[cfg(unix)]
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    folder.keep()
}
