//! The trait through which the archive accesses all files, so that tests can replace the file system.

pub(crate) mod dir;
mod disk;
pub(crate) mod log_file;
#[cfg(test)]
pub(crate) mod mem;
pub(crate) mod write_mode;

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use disk::DiskStorage;

/// A file system as the archive uses it.
///
/// All methods block. The thread that opens the archive, the commit thread, the maintenance thread and the threads of
/// readers call them.
pub trait Storage: Send + Sync + 'static {
    /// Creates `dir` and its parents if they are missing, and makes their entries durable.
    ///
    /// # Errors
    /// Any error of the file system.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks `dir` against other processes until the returned guard is dropped. Until then, [`Self::sync_dir`] of `dir`
    /// opens no further file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds the lock.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The identity of the directory at `dir`: device and inode. Another directory at the same path has another
    /// identity.
    ///
    /// # Errors
    /// Any error of the file system.
    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)>;

    /// The names of the files in `dir`, in any order.
    ///
    /// # Errors
    /// Any error of the file system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// Any error of the file system.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>>;

    /// Whether `path` is a symbolic link. Without an implementation, the storage has none.
    ///
    /// # Errors
    /// Any error of the file system.
    fn is_link(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(false)
    }

    /// Renames a file, replacing `to`. Durable after [`Self::sync_dir`].
    ///
    /// # Errors
    /// Any error of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Self::sync_dir`].
    ///
    /// # Errors
    /// Any error of the file system.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of `dir` durable.
    ///
    /// # Errors
    /// Any error of the file system. The caller must never retry.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged process can still write below `dir`.
    ///
    /// # Errors
    /// Any error of the file system.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// The name of the file system of `dir`, if its files must be written through the page cache: a network file
    /// system, or one of a process of its own (FUSE).
    ///
    /// # Errors
    /// Any error of the file system.
    fn cached_file_system(&self, _dir: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write. The file must exist.
    ReadWrite,
    /// To read and write. The file is created or emptied.
    Create,
}

/// An open file.
pub trait StorageFile: Send + Sync {
    /// The length of the file in bytes.
    ///
    /// # Errors
    /// Any error of the file system.
    fn size(&self) -> io::Result<u64>;

    /// Returns whether the file still has a name. The content of a file without a name is lost when the file is closed.
    ///
    /// # Errors
    /// Any error of the file system.
    fn is_linked(&self) -> io::Result<bool>;

    /// Reads at `at`. Returns the number of bytes read, 0 at the end of the file.
    ///
    /// # Errors
    /// Any error of the file system.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// The position of the first data at or behind `at`. The bytes in between are a hole, which reads as zeros. `None`
    /// if only a hole follows. A file system that does not know its holes has data everywhere.
    ///
    /// # Errors
    /// Any error of the file system.
    fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(Some(at))
    }

    /// Writes at `at`. Returns the number of bytes written, which may be smaller than the number given.
    ///
    /// # Errors
    /// Any error of the file system.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// The alignment of direct reads and writes in bytes: a power of two, at least 4,096. The position, the length and
    /// the address in memory must be multiples of it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::Unsupported`] when the file system cannot do this.
    fn direct_alignment(&self) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends all further reads and writes through this file past the page cache: see [`Self::direct_alignment`].
    ///
    /// # Errors
    /// As [`Self::direct_alignment`].
    fn bypass_cache(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the written bytes durable (`fdatasync`).
    ///
    /// # Errors
    /// Any error of the file system. The caller must never retry, because the kernel forgets what it could not write.
    fn sync_data(&self) -> io::Result<()>;

    /// Allocates space for `from..to` and makes the file at least `to` bytes long. New space is zero.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`] when there is not enough space,
    /// [`io::ErrorKind::Unsupported`] when the file system cannot do this.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()>;

    /// Cuts the file to `len` bytes, or extends it with zeros for which no space is allocated.
    ///
    /// # Errors
    /// Any error of the file system.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {path}: {source}", path = path.display())]
pub struct StorageError {
    /// The operation that failed, as a verb.
    pub op: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The error of the file system.
    pub source: io::Error,
}

impl StorageError {
    /// Returns whether the disk or a quota is full. Unlike other errors, this one can pass.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        is_no_space(&self.source)
    }

    /// Returns whether this process or this host has too many files open. This error can pass too.
    #[must_use]
    pub fn is_too_many_files(&self) -> bool {
        let code = self.source.raw_os_error();
        [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
    }
}

/// Returns whether `error` says that a file system cannot write past the page cache.
pub(super) fn is_not_direct(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Adds the operation and the path to an error.
pub(super) trait Context<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError { op, path: path.to_owned(), source })
    }
}

/// Returns whether `error` says that a disk or a quota is full.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes all of `bytes` at `at`. A single write may be short.
pub(super) fn write_all_at(file: &dyn StorageFile, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` from `at`. Returns the number of bytes read, which is smaller only at the end of the file.
pub(super) fn read_full_at(file: &dyn StorageFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
