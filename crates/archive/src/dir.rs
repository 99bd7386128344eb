//! The archive's directory: names, listing, and the torn tails that are kept.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::OFFSET_MAX;
use super::log_file::LogFile;
use super::scan::{Head, Scanner};
use super::storage::{Access, Context, Storage, StorageError, StorageFile, write_all_at};
use super::writing::Writing;

/// Largest number of torn tails kept. The oldest are removed first. No frame in a torn tail was ever acknowledged.
const LOST_FILES_MAX: usize = 64;
/// Largest number of bytes kept of one torn tail.
const LOST_BYTES_MAX: u64 = 16 << 20;

/// Name of the segment whose first frame has offset `base`.
pub(super) fn segment_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// Name of the file that marks a directory while `archive repair` writes it. After an interrupted repair the file
/// stays, and the directory is not an archive.
pub(super) const REPAIR_MARK: &str = "repair.incomplete";

/// Endings of the files that belong to a segment and can be rebuilt from it: `<base><ending>`.
pub(super) const SIDE_FILES: [&str; 3] = [".idx", UNFINISHED_INDEX, ".exported"];
/// Ending of an index that is being written.
pub(super) const UNFINISHED_INDEX: &str = ".idx.tmp";

fn base_of(name: &str) -> Option<u64> {
    base_before(name, ".seg")
}

fn base_before(name: &str, ending: &str) -> Option<u64> {
    digits_before(name, ending)?.parse().ok().filter(|base| *base <= OFFSET_MAX)
}

fn digits_before<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let digits = name.strip_suffix(ending)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then_some(digits)
}

/// Returns whether `name` names a segment at an offset that no frame can have.
fn is_beyond_offsets(name: &str) -> bool {
    digits_before(name, ".seg").is_some() && base_of(name).is_none()
}

/// Refuses a directory with a segment at an offset that no frame can have. Other files in it may be wrong too.
///
/// # Errors
/// [`StorageError`] with the file and a remedy.
pub(super) fn refuse_beyond_offsets(storage: &dyn Storage, dir: &Path) -> Result<(), StorageError> {
    let names = storage.list(dir).context("list", dir)?;
    match names.iter().find(|name| is_beyond_offsets(name)) {
        None => Ok(()),
        Some(name) => Err(beyond_offsets(&dir.join(name))),
    }
}

/// The error for a file with offsets that no frame can have.
pub(super) fn beyond_offsets(path: &Path) -> StorageError {
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
pub(super) fn list_segments(storage: &dyn Storage, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let names = storage.list(dir).context("list", dir)?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Returns the base offset in the header of the segment `base` in `dir`, if the header is sound and contradicts the
/// name.
pub(super) fn misnamed(storage: &dyn Storage, dir: &Path, base: u64) -> Option<u64> {
    let scanner = Scanner::open(storage, &dir.join(segment_name(base))).ok()?;
    match scanner.head() {
        Head::Sound(header) if header.base_offset != base => Some(header.base_offset),
        _ => None,
    }
}

/// As [`list_segments`], without segments whose headers contradict their names.
pub(super) fn list_own_segments(storage: &dyn Storage, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let mut bases = list_segments(storage, dir)?;
    bases.retain(|base| misnamed(storage, dir, *base).is_none());
    Ok(bases)
}

/// The identity of a directory, independent of its name.
pub(super) type DirId = (u64, u64);

/// The contents of the directory.
pub(super) struct Listing {
    /// Bases of the segments.
    pub(super) segments: BTreeSet<u64>,
    /// Base and ending of the side files.
    pub(super) side_files: Vec<(u64, &'static str)>,
    /// Names of segments at offsets that no frame can have.
    pub(super) beyond_offsets: Vec<String>,
}

/// The archive's directory and its storage.
#[derive(Clone)]
pub(super) struct Dir {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) path: PathBuf,
    pub(super) writing: Writing,
}

impl Dir {
    /// The directory at `path`. Writes go through the page cache.
    pub(super) fn new(storage: Arc<dyn Storage>, path: PathBuf) -> Self {
        Self { storage, path, writing: Writing::default() }
    }

    pub(super) fn segment(&self, base: u64) -> PathBuf {
        self.path.join(segment_name(base))
    }

    pub(super) fn side_file(&self, base: u64, ending: &str) -> PathBuf {
        self.path.join(format!("{base:020}{ending}"))
    }

    /// The file of a segment that recovery is building and has not yet put in place.
    pub(super) fn recovery(&self) -> PathBuf {
        self.path.join("recovery.tmp")
    }

    /// See [`REPAIR_MARK`].
    pub(super) fn repair_mark(&self) -> PathBuf {
        self.path.join(REPAIR_MARK)
    }

    /// Whether a repair was interrupted while it wrote this directory.
    pub(super) fn is_incomplete(&self) -> Result<bool, StorageError> {
        let names = self.storage.list(&self.path).context("list", &self.path)?;
        Ok(names.iter().any(|name| name == REPAIR_MARK))
    }

    /// The space kept for the next segment.
    pub(super) fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// The directory where torn tails and unreadable segments are kept for people to look at.
    pub(super) fn lost(&self) -> PathBuf {
        self.path.join("lost")
    }

    pub(super) fn segments(&self) -> Result<Vec<u64>, StorageError> {
        list_segments(&*self.storage, &self.path)
    }

    /// The next segment after `base`. Segments whose headers contradict their names are skipped.
    pub(super) fn next_segment(&self, base: u64) -> Result<Option<u64>, StorageError> {
        let is_own = |next: &u64| misnamed(&*self.storage, &self.path, *next).is_none();
        Ok(self.segments()?.into_iter().filter(|next| *next > base).find(is_own))
    }

    pub(super) fn list(&self) -> Result<Listing, StorageError> {
        let names = self.storage.list(&self.path).context("list", &self.path)?;
        let side_file =
            |name: &String| SIDE_FILES.iter().find_map(|ending| Some((base_before(name, ending)?, *ending)));
        Ok(Listing {
            segments: names.iter().filter_map(|name| base_of(name)).collect(),
            side_files: names.iter().filter_map(side_file).collect(),
            beyond_offsets: names.iter().filter(|name| is_beyond_offsets(name)).cloned().collect(),
        })
    }

    /// Removes side files without a segment, and unfinished ones.
    ///
    /// Only the writer of the side files may call this, and only while it writes none.
    pub(super) fn remove_stale(&self, listing: &Listing) -> Result<(), StorageError> {
        let is_stale =
            |(base, ending): &&(u64, &str)| *ending == UNFINISHED_INDEX || !listing.segments.contains(base);
        let mut stale = listing.side_files.iter().filter(is_stale);
        stale.try_for_each(|(base, ending)| self.remove(&self.side_file(*base, ending)))
    }

    /// The identity of the directory that the path leads to.
    pub(super) fn id(&self) -> Result<DirId, StorageError> {
        self.storage.identity(&self.path).context("find", &self.path)
    }

    /// Size of a file in bytes, 0 if there is no file.
    pub(super) fn size(&self, path: &Path) -> Result<u64, StorageError> {
        match self.storage.open(path, Access::Read).and_then(|file| file.size()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            result => result.context("measure", path),
        }
    }

    pub(super) fn scan(&self, base: u64) -> Result<Scanner, StorageError> {
        Scanner::open(&*self.storage, &self.segment(base))
    }

    pub(super) fn open(&self, path: &Path, access: Access) -> Result<Box<dyn StorageFile>, StorageError> {
        self.storage.open(path, access).context("open", path)
    }

    /// Opens a file of the log to write at `end`, where the log ends.
    pub(super) fn open_log(&self, path: &Path, access: Access, end: u64) -> Result<LogFile, StorageError> {
        let file = self.open(path, access)?;
        if !self.writing.is_direct() {
            return Ok(LogFile::cached(file, end));
        }
        match LogFile::direct(file, end).context("write", path) {
            // The failed attempt leaves settings on the open file, so the file is opened once more.
            Err(error) if self.writing.falls_back(path, &error) => {
                Ok(LogFile::cached(self.open(path, Access::ReadWrite)?, end))
            }
            result => result,
        }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.storage.rename(from, to).context("rename", from)
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.storage.sync_dir(&self.path).context("sync", &self.path)
    }

    pub(super) fn free_bytes(&self) -> Result<u64, StorageError> {
        let free = self.storage.free_bytes(&self.path);
        free.context("measure", &self.path)
    }

    /// Removes a file that may not exist.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StorageError> {
        match self.storage.unlink(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", path),
        }
    }

    /// Copies the torn `bytes` of the segment `base` to `lost/` and makes them durable.
    ///
    /// The bytes were never acknowledged. If the disk is full, they are discarded with a log line, and recovery goes
    /// on.
    pub(super) fn keep_lost(
        &self,
        base: u64,
        scanner: &Scanner,
        bytes: Range<u64>,
    ) -> Result<(), StorageError> {
        match self.copy_lost(base, scanner, bytes) {
            Err(error) if error.is_no_space() => {
                tracing::warn!(%error, "no space to keep the bytes of a torn tail");
                Ok(())
            }
            result => result,
        }
    }

    fn copy_lost(&self, base: u64, scanner: &Scanner, bytes: Range<u64>) -> Result<(), StorageError> {
        let lost = self.lost();
        self.storage.create_dir(&lost).context("create", &lost)?;
        self.trim_lost(&lost)?;
        let path = lost.join(format!("{base:020}-{:012}.torn", bytes.start));
        let end = bytes.end.min(bytes.start + LOST_BYTES_MAX);
        let content = scanner.raw(bytes.start..end)?;
        if let Err(error) = self.write_lost(&path, &content) {
            // A partial copy would take space that the log needs.
            self.remove(&path)?;
            return Err(error);
        }
        self.storage.sync_dir(&lost).context("sync", &lost)
    }

    fn write_lost(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let file = self.open(path, Access::Create)?;
        write_all_at(&*file, content, 0).context("write", path)?;
        file.sync_data().context("sync", path)
    }

    fn trim_lost(&self, lost: &Path) -> Result<(), StorageError> {
        let mut names = self.storage.list(lost).context("list", lost)?;
        names.retain(|name| name.ends_with(".torn"));
        names.sort_unstable();
        let excess = (names.len() + 1).saturating_sub(LOST_FILES_MAX);
        names[..excess].iter().try_for_each(|name| self.remove(&lost.join(name)))
    }
}

/// The error for a file or directory that was moved, replaced or removed while the archive was running.
pub(super) fn gone(path: &Path, what: &str) -> StorageError {
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
