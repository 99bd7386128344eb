//! Small file systems that a test mounts for itself.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs of a given size. Dropping it unmounts it.
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// Mounts a tmpfs. Returns `None` where that is not allowed.
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
        home_of(self.path())
    }

    /// Uses up all free space, to the last byte.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("no filler");
        for size in [1 << 20, 4 << 10, 1] {
            let chunk = vec![0xF1; size];
            while file.write_all(&chunk).is_ok() {}
        }
        assert!(self.free_bytes() < 4 << 10, "{} bytes are still free", self.free_bytes());
    }

    /// Uses up `bytes` of the free space.
    pub fn take(&self, bytes: usize) {
        let taken = std::fs::write(self.filler(), vec![0xF1; bytes]);
        taken.expect("there is no space to take");
    }

    /// Frees the space that [`Self::fill`] or [`Self::take`] used.
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
        // A lazy unmount: the daemon of a failed test may still use the file system.
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
    }
}

/// A file system in a file, mounted over a loop device. Dropping this removes it.
pub struct LoopMount {
    device: Option<PathBuf>,
    /// The mount point, in the same directory as the file.
    dir: TempDir,
}

impl LoopMount {
    /// Makes a file system of `bytes` on a device with sectors of `sector_bytes`. `mkfs` is the command without the
    /// device.
    ///
    /// # Errors
    /// The reason why that is not possible on this machine.
    pub fn new(mkfs: &[&str], sector_bytes: u32, bytes: u64) -> Result<Self, String> {
        // Not on a tmpfs: a loop device may not be able to write there past the page cache.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("no temporary directory");
        let image = dir.path().join("image");
        let file = File::create(&image).expect("no image");
        file.set_len(bytes).expect("an image that large");
        let mut mount = Self { device: None, dir };
        std::fs::create_dir(mount.path()).expect("a mount point");
        let sector_bytes = sector_bytes.to_string();
        let losetup = ["losetup", "--find", "--show", "--sector-size", &sector_bytes];
        let device = run(Command::new(losetup[0]).args(&losetup[1..]).arg(&image))?;
        let device = mount.device.insert(PathBuf::from(device.trim()));
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&*device))?;
        run(Command::new("mount").arg(&*device).arg(mount.dir.path().join("mnt")))?;
        Ok(mount)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
        if let Some(device) = &self.device {
            drop(Command::new("losetup").arg("--detach").arg(device).output());
        }
    }
}

/// Runs a command and returns its stdout.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A directory for a daemon whose `data` is the directory `path`.
pub fn home_of(path: &Path) -> TempDir {
    let home = tempfile::tempdir().expect("no temporary directory");
    std::os::unix::fs::symlink(path, home.path().join("data")).expect("a symbolic link");
    home
}
