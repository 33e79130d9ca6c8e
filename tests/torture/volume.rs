//! A small file system for the server's files, which the nemesis can fill.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Larger than any run needs.
const ROOMY: u64 = 64 << 30;

/// A file system in memory (tmpfs), whose size can be changed while it is used. Unmounted when it is dropped.
pub struct Volume(PathBuf);

impl Volume {
    /// Mounts one in a new folder; `None` where that is not to be had: it takes Linux and its superuser.
    pub fn mount(folder: &Path) -> io::Result<Option<Self>> {
        std::fs::create_dir(folder)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={ROOMY}"), "longhaul-torture"])
            .arg(folder)
            .stderr(Stdio::null());
        let mounted = cfg!(target_os = "linux") && mount.status().is_ok_and(|status| status.success());
        Ok(mounted.then(|| Self(folder.to_owned())))
    }

    /// Leaves nothing free.
    pub fn fill(&self) -> io::Result<()> {
        // What is written meanwhile makes the used size a refused one.
        for _ in 0..100 {
            if self.resize(self.used()?)? {
                return Ok(());
            }
        }
        Err(io::Error::other("the volume is written to faster than it can be made smaller"))
    }

    /// Leaves much free again.
    pub fn widen(&self) -> io::Result<()> {
        self.resize(ROOMY)?.then_some(()).ok_or_else(|| io::Error::other("the volume cannot be made larger"))
    }

    fn resize(&self, bytes: u64) -> io::Result<bool> {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(&self.0).stderr(Stdio::null());
        Ok(mount.status()?.success())
    }

    fn used(&self) -> io::Result<u64> {
        let path = std::ffi::CString::new(self.0.as_os_str().as_encoded_bytes())?;
        // SAFETY: all zeroes is a valid statvfs.
        let mut figures: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: a path that ends with a zero byte, and room for the answer.
        if unsafe { libc::statvfs(path.as_ptr(), &mut figures) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((figures.f_blocks - figures.f_bfree) * figures.f_frsize)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: the server may be about to end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
