//! A small file system of the test's own.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs of a given size, unmounted when dropped.
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// Mounts one; `None` where that is not allowed.
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let option = format!("size={bytes}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self { dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A directory for a daemon whose `data` lies on this file system.
    pub fn home(&self) -> TempDir {
        let home = tempfile::tempdir().expect("no temporary directory");
        std::os::unix::fs::symlink(self.path(), home.path().join("data")).expect("a symbolic link");
        home
    }

    /// Takes all the space that is free, to the last byte.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("no filler");
        for size in [1 << 20, 4 << 10, 1] {
            let chunk = vec![0xF1; size];
            while file.write_all(&chunk).is_ok() {}
        }
        assert!(self.free_bytes() < 4 << 10, "{} bytes are still free", self.free_bytes());
    }

    /// Takes `bytes` of the space that is free.
    pub fn take(&self, bytes: usize) {
        let taken = std::fs::write(self.filler(), vec![0xF1; bytes]);
        taken.expect("there is no space to take");
    }

    /// Gives back what [`Self::fill`] or [`Self::take`] took.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler cannot be removed");
    }

    pub fn free_bytes(&self) -> u64 {
        let stats = rustix::fs::statvfs(self.path()).expect("statvfs");
        stats.f_bavail * stats.f_frsize
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a daemon of a failed test may be about to let go of it.
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
    }
}
