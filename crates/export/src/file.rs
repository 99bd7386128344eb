//! Writes the files of an export: under a temporary name, then synced and renamed. A failed export leaves no partial
//! file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::{ExportError, MANIFEST_NAME};
use super::listing::LISTINGS;
use support::{plain_file, private};

/// Bytes written between two syncs. Limits the data that waits for the disk, so that a sync of the archive does not
/// have to wait long.
const SYNC_BYTES: u64 = 8 << 20;

/// Prefix of the directory names of partitions.
const PARTITION: &str = "date=";

/// An unfinished file. Dropping it before [`Draft::commit`] removes the file.
pub(super) struct Draft {
    file: File,
    dir: PathBuf,
    tmp: PathBuf,
    path: PathBuf,
    /// Estimate of the bytes that the whole export needs, for the error message if there is no space.
    need: u64,
    written: u64,
    synced: u64,
    committed: bool,
}

impl Draft {
    /// Creates the file `name` in `dir`, which must exist. The umask decides which users can read it: an export is made
    /// for other users.
    pub(super) fn create(dir: &Path, name: &str, need: u64) -> Result<Self, ExportError> {
        Self::create_with(File::options().write(true).create(true).truncate(true), dir, name, need)
    }

    /// [`Draft::create`] for a file in the archive, with the mode of the files there.
    pub(super) fn create_private(dir: &Path, name: &str) -> Result<Self, ExportError> {
        Self::create_with(&mut private::create_file(), dir, name, 0)
    }

    fn create_with(
        options: &mut OpenOptions,
        dir: &Path,
        name: &str,
        need: u64,
    ) -> Result<Self, ExportError> {
        let (tmp, path) = (dir.join(tmp_name(name)), dir.join(name));
        let file = plain_file::create(options, &tmp)
            .map_err(|error| ExportError::of_file("create", &tmp, need, error))?;
        let dir = dir.to_owned();
        Ok(Self { file, dir, tmp, path, need, written: 0, synced: 0, committed: false })
    }

    /// The final path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Converts `source` into the error of an operation on this file.
    pub(super) fn error(&self, op: &'static str, source: io::Error) -> ExportError {
        ExportError::of_file(op, &self.path, self.need, source)
    }

    /// Makes the file durable under its final name. Replaces an older file of that name. Returns the bytes written.
    pub(super) fn commit(mut self) -> Result<u64, ExportError> {
        self.file.sync_all().map_err(|error| self.error("sync", error))?;
        fs::rename(&self.tmp, &self.path).map_err(|error| self.error("rename", error))?;
        self.committed = true;
        sync_dir(&self.dir)?;
        Ok(self.written)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_file(&self.tmp)
        {
            let path = self.tmp.display();
            tracing::warn!(%path, %error, "an unfinished export file remains until the next export");
        }
    }
}

fn tmp_name(name: &str) -> String {
    format!(".{name}.tmp")
}

/// Whether `name` is a temporary name of an export. Other files in the directory do not match.
fn is_tmp(name: &str) -> bool {
    let named = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let of_segment = |name: &str| name.split_once('.').is_some_and(|(base, _)| is_base(base));
    named.is_some_and(|name| name == MANIFEST_NAME || of_segment(name))
}

pub(super) fn is_base(digits: &str) -> bool {
    digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The directory of an export, locked against other exports until it is dropped.
#[derive(Debug)]
pub(super) struct OutDir {
    path: PathBuf,
    _lock: File,
}

impl OutDir {
    /// Creates `path` if it is missing, but not its parent: the parent may be a disk that is not mounted.
    pub(super) fn open(path: &Path) -> Result<Self, ExportError> {
        create_dir(path)?;
        let io = |op, error| ExportError::of_file(op, path, 0, error);
        let lock = File::open(path).map_err(|error| io("open", error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(ExportError::Busy { out: path.to_owned() })
            }
            Err(error) => Err(io("lock", error)),
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of a partition. Creates it if it is missing.
    pub(super) fn partition(&self, date: impl std::fmt::Display) -> Result<PathBuf, ExportError> {
        let path = self.path.join(Self::partition_name(date));
        create_dir(&path)?;
        Ok(path)
    }

    /// The name of the directory of a partition.
    pub(super) fn partition_name(date: impl std::fmt::Display) -> String {
        format!("{PARTITION}{date}")
    }

    /// Removes the temporary files of interrupted exports. The lock ensures that no other export writes here.
    pub(super) fn sweep(&self) -> Result<(), ExportError> {
        let mut dirs = partitions(&self.path)?;
        dirs.push(self.path.clone());
        dirs.extend(Some(self.path.join(LISTINGS)).filter(|dir| dir.is_dir()));
        for dir in dirs {
            for name in names(&dir)?.iter().filter(|name| is_tmp(name)) {
                remove(&dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes the files `name` of all partitions except those in `keep`. They come from an earlier export of frames
    /// that are no longer in the archive.
    pub(super) fn remove_others(&self, name: &str, keep: &[PathBuf]) -> Result<(), ExportError> {
        for dir in partitions(&self.path)? {
            let path = dir.join(name);
            if !keep.contains(&path) && path.exists() {
                remove(&path)?;
                sync_dir(&dir)?;
            }
        }
        Ok(())
    }
}

/// Whether `out` contains directories of partitions.
pub(super) fn has_partitions(out: &Path) -> Result<bool, ExportError> {
    Ok(!partitions(out)?.is_empty())
}

fn partitions(out: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let names = names(out)?.into_iter().filter(|name| name.starts_with(PARTITION));
    Ok(names.map(|name| out.join(name)).filter(|path| path.is_dir()).collect())
}

fn names(dir: &Path) -> Result<Vec<String>, ExportError> {
    let list = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    };
    list().map_err(|error| ExportError::of_file("list", dir, 0, error))
}

pub(super) fn create_dir(path: &Path) -> Result<(), ExportError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(ExportError::of_file("create", path, 0, error)),
        Ok(()) => sync_dir(parent(path)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn remove(path: &Path) -> Result<(), ExportError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ExportError::of_file("remove", path, 0, error))
        }
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), ExportError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| ExportError::of_file("sync", dir, 0, error))
}
