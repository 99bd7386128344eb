//! The one door through which the archive touches files, so that tests can stand behind it.

mod aligned;
mod disk;
#[cfg(test)]
pub(crate) mod mem;

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub(super) use aligned::{AlignedBuffer, GrowingBuffer, PAGE_BYTES};
pub use disk::DiskStorage;

/// A file system as the archive uses it. All methods block; whoever opens the archive calls them, then the commit thread
/// and maintenance, and readers on threads of their own choice.
pub trait Storage: Send + Sync + 'static {
    /// Creates `dir` and its parents where missing and makes their entries durable.
    ///
    /// # Errors
    /// As the file system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks `dir` against other processes until the returned guard is dropped. [`Self::sync_dir`] of `dir` needs no
    /// further file until then.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// What tells the directory at `dir` from any other that may lie there: device and inode.
    ///
    /// # Errors
    /// As the file system says.
    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)>;

    /// The names of the files in `dir`, in any order.
    ///
    /// # Errors
    /// As the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// As the file system says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>>;

    /// Renames a file, replacing `to`. Durable after [`Self::sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Self::sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of `dir` durable.
    ///
    /// # Errors
    /// As the file system says; never to be retried.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged process can still write below `dir`.
    ///
    /// # Errors
    /// As the file system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// The name of the file system of `dir`, if its files are to be written by way of the page cache: one of the network,
    /// or of a process of its own.
    ///
    /// # Errors
    /// As the file system says.
    fn cached_file_system(&self, _dir: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write; it must exist.
    ReadWrite,
    /// To read and write; it is created, or emptied.
    Create,
}

/// An open file.
pub trait StorageFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the file system says.
    fn size(&self) -> io::Result<u64>;

    /// Whether a name still leads to it: without one, what is written to it is lost when it is closed.
    ///
    /// # Errors
    /// As the file system says.
    fn is_linked(&self) -> io::Result<bool>;

    /// Reads at `at` and returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// As the file system says.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Where the next data lies at `at` or behind it: what is passed over is a hole, which reads as zeros. `None` if nothing
    /// but a hole follows. A file system that does not know its holes has data everywhere.
    ///
    /// # Errors
    /// As the file system says.
    fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(Some(at))
    }

    /// Writes at `at` and returns how many bytes, which may be fewer than given.
    ///
    /// # Errors
    /// As the file system says.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// What position, length and address in memory must be multiples of to pass by the page cache: a power of two, at
    /// least 4,096.
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

    /// Makes what was written durable (`fdatasync`).
    ///
    /// # Errors
    /// As the file system says; never to be retried, since the kernel forgets what it could not write.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes sure that `from..to` is backed by space, and that the file is at least `to` long. New space is zero.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`] when there is not enough space,
    /// [`io::ErrorKind::Unsupported`] when the file system cannot do this.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()>;

    /// Cuts the file, or lengthens it by zeros that no space stands behind.
    ///
    /// # Errors
    /// As the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {path}: {source}", path = path.display())]
pub struct StorageError {
    /// What was tried, as a verb.
    pub op: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the file system said.
    pub source: io::Error,
}

impl StorageError {
    /// Whether the disk or a quota is full, which passes, unlike other errors.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        is_no_space(&self.source)
    }

    /// Whether this process or this host has too many files open, which passes as well.
    #[must_use]
    pub fn is_no_files(&self) -> bool {
        let code = self.source.raw_os_error();
        [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
    }
}

/// Whether `error` says that a file system cannot write past the page cache.
pub(super) fn is_not_direct(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Adds to an error what was being done.
pub(super) trait Context<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError { op, path: path.to_owned(), source })
    }
}

/// Whether `error` says that a disk or a quota is full.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes all of `bytes` at `at`, however short the single writes are.
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

/// Fills `buffer` from `at` and returns how many bytes there were: fewer only at the end of the file.
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
