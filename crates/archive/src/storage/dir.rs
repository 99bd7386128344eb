//! The archive's directory.

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::OFFSET_MAX;
use crate::format::names::{
    REPAIR_MARK, SIDE_FILE_SUFFIXES, UNFINISHED_INDEX, base_before, base_of, is_beyond_offsets, segment_name,
};
use crate::storage::log_file::LogFile;
use crate::storage::write_mode::WriteMode;
use crate::storage::{Access, Context, Storage, StorageError, StorageFile};

/// Refuses a directory with a segment at an offset that no frame can have. Other files in it may be wrong too.
///
/// # Errors
/// [`StorageError`] with the file and a remedy.
pub(crate) fn refuse_beyond_offsets(storage: &dyn Storage, dir: &Path) -> Result<(), StorageError> {
    let names = storage.list(dir).context("list", dir)?;
    match names.iter().find(|name| is_beyond_offsets(name)) {
        None => Ok(()),
        Some(name) => Err(beyond_offsets(&dir.join(name))),
    }
}

/// The error for a file with offsets that no frame can have.
pub(crate) fn beyond_offsets(path: &Path) -> StorageError {
    let text = format!(
        "it would hold offsets beyond {OFFSET_MAX}, which no archive reaches, so it cannot belong to this one; move \
         the file to another directory and try again"
    );
    StorageError {
        op: "use",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, text),
    }
}

/// The bases of the segments in `dir`, ascending.
pub(crate) fn list_segments(storage: &dyn Storage, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let names = storage.list(dir).context("list", dir)?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// The lock of a directory. It is held until it is dropped.
pub(crate) type Lock = Arc<dyn Any + Send + Sync>;

/// Locks `dir` against other processes. Returns `None` if another process holds the lock.
pub(crate) fn lock(storage: &dyn Storage, dir: &Path) -> Result<Option<Lock>, StorageError> {
    match storage.lock(dir) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        result => Ok(Some(result.context("lock", dir)?.into())),
    }
}

/// The identity of a directory, independent of its name.
pub(crate) type DirId = (u64, u64);

/// The contents of the directory.
pub(crate) struct Listing {
    /// Bases of the segments.
    pub(crate) segments: BTreeSet<u64>,
    /// Base and ending of the side files.
    pub(crate) side_files: Vec<(u64, &'static str)>,
    /// Names of segments at offsets that no frame can have.
    pub(crate) beyond_offsets: Vec<String>,
}

/// The archive's directory and its storage.
#[derive(Clone)]
pub(crate) struct Dir {
    /// The file system.
    pub(crate) storage: Arc<dyn Storage>,
    /// Path of the directory.
    pub(crate) path: PathBuf,
    /// How files of the log are written. Clones of the directory share the choice.
    pub(crate) write_mode: WriteMode,
}

impl Dir {
    /// The directory at `path`. Writes go through the page cache.
    pub(crate) fn new(storage: Arc<dyn Storage>, path: PathBuf) -> Self {
        Self { storage, path, write_mode: WriteMode::default() }
    }

    pub(crate) fn segment(&self, base: u64) -> PathBuf {
        self.path.join(segment_name(base))
    }

    pub(crate) fn side_file(&self, base: u64, ending: &str) -> PathBuf {
        self.path.join(format!("{base:020}{ending}"))
    }

    /// The file of a segment that recovery is building and has not yet put in place.
    pub(crate) fn recovery(&self) -> PathBuf {
        self.path.join("recovery.tmp")
    }

    /// The file that exists while a repair writes this directory.
    pub(crate) fn repair_mark(&self) -> PathBuf {
        self.path.join(REPAIR_MARK)
    }

    /// Whether a repair was interrupted while it wrote this directory.
    pub(crate) fn is_incomplete(&self) -> Result<bool, StorageError> {
        let names = self.storage.list(&self.path).context("list", &self.path)?;
        Ok(names.iter().any(|name| name == REPAIR_MARK))
    }

    /// The file whose space is kept for emergencies. It becomes the next segment.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// The directory where torn tails and unreadable segments are kept for people to look at.
    pub(crate) fn lost(&self) -> PathBuf {
        self.path.join("lost")
    }

    pub(crate) fn segments(&self) -> Result<Vec<u64>, StorageError> {
        list_segments(&*self.storage, &self.path)
    }

    pub(crate) fn list(&self) -> Result<Listing, StorageError> {
        let names = self.storage.list(&self.path).context("list", &self.path)?;
        let side_file = |name: &String| {
            SIDE_FILE_SUFFIXES.iter().find_map(|suffix| Some((base_before(name, suffix)?, *suffix)))
        };
        Ok(Listing {
            segments: names.iter().filter_map(|name| base_of(name)).collect(),
            side_files: names.iter().filter_map(side_file).collect(),
            beyond_offsets: names.iter().filter(|name| is_beyond_offsets(name)).cloned().collect(),
        })
    }

    /// Removes side files without a segment, and unfinished ones.
    ///
    /// Only the writer of the side files may call this, and only while it writes none.
    pub(crate) fn remove_stale(&self, listing: &Listing) -> Result<(), StorageError> {
        let is_stale =
            |(base, ending): &&(u64, &str)| *ending == UNFINISHED_INDEX || !listing.segments.contains(base);
        let mut stale = listing.side_files.iter().filter(is_stale);
        stale.try_for_each(|(base, ending)| self.remove(&self.side_file(*base, ending)))
    }

    /// The identity of the directory that the path leads to.
    pub(crate) fn id(&self) -> Result<DirId, StorageError> {
        self.storage.identity(&self.path).context("find", &self.path)
    }

    /// Size of a file in bytes, 0 if there is no file.
    pub(crate) fn size(&self, path: &Path) -> Result<u64, StorageError> {
        match self.storage.open(path, Access::Read).and_then(|file| file.size()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            result => result.context("measure", path),
        }
    }

    pub(crate) fn open(&self, path: &Path, access: Access) -> Result<Box<dyn StorageFile>, StorageError> {
        self.storage.open(path, access).context("open", path)
    }

    /// Opens a file of the log to write at `end`, where the log ends.
    pub(crate) fn open_log(&self, path: &Path, access: Access, end: u64) -> Result<LogFile, StorageError> {
        let file = self.open(path, access)?;
        if !self.write_mode.is_direct() {
            return Ok(LogFile::cached(file, end));
        }
        match LogFile::direct(file, end).context("write", path) {
            // The failed attempt leaves settings on the open file, so the file is opened once more. By now it exists.
            Err(error) if self.write_mode.falls_back(path, &error) => {
                Ok(LogFile::cached(self.open(path, Access::ReadWrite)?, end))
            }
            result => result,
        }
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.storage.rename(from, to).context("rename", from)
    }

    /// Renames `from` to `to`, which is in `lost/`, and syncs both directories.
    pub(crate) fn move_to_lost(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let lost = self.lost();
        self.storage.create_dir(&lost).context("create", &lost)?;
        self.rename(from, to)?;
        self.storage.sync_dir(&lost).context("sync", &lost)?;
        self.sync()
    }

    /// Makes the names of the files durable. A failure is final: the caller never retries.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.storage.sync_dir(&self.path).context("sync", &self.path)
    }

    pub(crate) fn free_bytes(&self) -> Result<u64, StorageError> {
        let free = self.storage.free_bytes(&self.path);
        free.context("measure", &self.path)
    }

    /// Removes a file that may not exist.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StorageError> {
        match self.storage.unlink(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", path),
        }
    }
}

/// The error for a file or directory that was moved, replaced or removed while the archive was running.
/// `what` is subject and verb, such as "the segment is".
pub(crate) fn gone(path: &Path, what: &str) -> StorageError {
    let text = format!(
        "{what} no longer there: it was moved, replaced or removed while the archive was running; put it back if it was \
         moved, keep others from this directory, and start again"
    );
    StorageError {
        op: "go on in",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::NotFound, text),
    }
}
