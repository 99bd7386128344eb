//! The real file system.

mod direct;

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    FallocateFlags, FlockOperation, OFlags, SeekFrom, fallocate, fcntl_getfl, fcntl_setfl, flock, seek,
    statfs, statvfs,
};
use rustix::io::Errno;

use super::{Access, Storage, StorageFile};
use support::{plain_file, private};

/// Files of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

impl Storage for DiskStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.create_dir_with(dir, private::DIR_MODE)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = Arc::new(File::open(dir)?);
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        locked().insert(dir.to_owned(), Arc::clone(&file));
        Ok(Box::new(Lock { dir: dir.to_owned(), file }))
    }

    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)> {
        let found = std::fs::metadata(dir)?;
        Ok((found.dev(), found.ino()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let file = match access {
            Access::Read => plain_file::open(path)?,
            Access::ReadWrite => plain_file::open_with(OpenOptions::new().read(true).write(true), path)?,
            Access::Create => plain_file::create(private::create_file().read(true), path)?,
        };
        Ok(Box::new(DiskFile(file)))
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        Ok(std::fs::symlink_metadata(path)?.is_symlink())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let kept = locked().get(dir).cloned();
        kept.map_or_else(|| File::open(dir).map(Arc::new), Ok)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let found = statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn cached_file_system(&self, dir: &Path) -> io::Result<Option<&'static str>> {
        Ok(direct::cached_file_system(statfs(dir)?.f_type as u64))
    }
}

impl DiskStorage {
    /// Creates `dir` with `mode`. Its missing parents are the data directory and those of the data directory.
    fn create_dir_with(self, dir: &Path, mode: u32) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
        };
        self.create_dir_with(parent, private::DATA_DIR_MODE)?;
        match private::create_dir(dir, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            result => result?,
        }
        self.sync_dir(parent)
    }
}

/// The directories that this process has locked, each as an open file. A sync of such a directory must not fail because
/// too many files are open: a failed sync is final.
static LOCKED: Mutex<BTreeMap<PathBuf, Arc<File>>> = Mutex::new(BTreeMap::new());

fn locked() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<File>>> {
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of a directory. The kernel releases it when the last copy of `file` is closed.
struct Lock {
    /// The directory, as the key of [`LOCKED`].
    dir: PathBuf,
    /// The open directory that holds the lock.
    file: Arc<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut locked = locked();
        // Another directory with a lock of its own may meanwhile lie at the same path.
        if locked.get(&self.dir).is_some_and(|file| Arc::ptr_eq(file, &self.file)) {
            locked.remove(&self.dir);
        }
    }
}

struct DiskFile(File);

impl StorageFile for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.nlink() > 0)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }

    fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
        // All reads and writes give their position, so the position of the file itself does not matter.
        match seek(&self.0, SeekFrom::Data(at)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(at)),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn direct_alignment(&self) -> io::Result<usize> {
        direct::alignment(&self.0)
    }

    fn bypass_cache(&self) -> io::Result<()> {
        Ok(fcntl_setfl(&self.0, fcntl_getfl(&self.0)? | OFlags::DIRECT)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), from, to - from) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
