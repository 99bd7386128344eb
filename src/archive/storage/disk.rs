//! The real file system.

mod direct;

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};

use super::{Access, Storage, StorageFile, is_no_space};
use direct::Direct;

/// Files of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

impl Storage for DiskStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
        };
        self.create_dir(parent)?;
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            result => result?,
        }
        self.sync_dir(parent)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let guard = File::open(dir)?;
        flock(&guard, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(guard))
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
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::ReadWrite => _ = options.write(true),
            Access::Create => _ = options.write(true).create(true).truncate(true),
        }
        Ok(Box::new(DiskFile { file: options.open(path)?, direct: Mutex::new(Appending::NotYet) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let found = statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

fn is_not_for_direct(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

struct DiskFile {
    file: File,
    direct: Mutex<Appending>,
}

/// How the file is written at its end.
enum Appending {
    /// Nothing was yet.
    NotYet,
    Direct(Direct),
    /// By way of the page cache, since its file system wants it so.
    Cached,
}

impl StorageFile for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.file.write_at(bytes, at)
    }

    fn append_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        if let Appending::NotYet = *direct {
            *direct = Direct::open(&self.file).map_or(Appending::Cached, Appending::Direct);
        }
        if let Appending::Direct(appending) = &mut *direct {
            match appending.append(&self.file, bytes, at) {
                Err(error) if is_not_for_direct(&error) => *direct = Appending::Cached,
                // Whole pages may need more space than the bytes do, for which there may have been a promise.
                Err(error) if is_no_space(&error) => {}
                result => return result.map(|()| bytes.len()),
            }
        }
        self.file.write_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), from, to - from) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
