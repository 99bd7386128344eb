//! Repair: copies what can be read of a damaged archive into a new directory, as a sound log.
//!
//! The copy is the same log: same id, same offsets, same positions. Clients resume and subscribers continue. The copy
//! records a hole in the place of the frames that cannot be read. The repair locks both directories: a daemon that
//! wrote the archive meanwhile would accept frames that the copy lacks. The repair reads the damaged directory and
//! never writes to it.

mod copy;
mod source;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::incomplete;
use crate::format::names::REPAIR_MARK;
use crate::storage::Context;
use crate::storage::dir::{self, Dir, Lock};
use crate::{Access, DiskStorage, ReadError, Storage, StorageError};

/// Why an archive cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Another process holds the lock of a directory. A daemon could write frames that the copy then lacks.
    #[error("archive {} is in use: stop the daemon first, or the copy lacks the frames that it accepts meanwhile", .0.display())]
    Locked(PathBuf),
    /// The directory of the copy holds files.
    #[error("{} is not empty: name a directory that is empty or does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// The directory of the copy holds what an interrupted repair left.
    #[error("{}", incomplete(.0))]
    Incomplete(PathBuf),
    /// The directory of the copy lies in the archive, so the copy would include itself.
    #[error("{} lies in the archive itself: name a directory outside of it", .0.display())]
    Inside(PathBuf),
    /// A file operation failed before the copy began.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The copy ended early.
    #[error("{source}; the copy in {} is incomplete: remove it, then repair again", dir.display())]
    Stopped {
        /// The directory of the copy.
        dir: PathBuf,
        /// What cannot be read or written.
        source: ReadError,
    },
}

/// What a repair copied and what it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Frames in the copy.
    pub frames: u64,
    /// Segments in the copy.
    pub segments: u64,
    /// Streams with a position in the copy.
    pub streams: usize,
    /// Offset of the oldest frame, the same as in the archive.
    pub first_offset: u64,
    /// Offset that the next frame will get.
    pub next_offset: u64,
    /// Offsets that the copy lacks, ascending. Each is recorded in the copy as a hole.
    pub lost: Vec<LostFrames>,
    /// Bytes behind the last whole block that no block attests. No frame in them was acknowledged.
    pub torn_bytes: u64,
    /// Whether the copy has a new log id, because no segment header was sound.
    pub has_new_log_id: bool,
    /// Segments of another log. The copy leaves them out.
    pub foreign: Vec<PathBuf>,
}

/// Frames that a repair cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostFrames {
    /// Their offsets.
    pub offsets: Range<u64>,
    /// The file they were in.
    pub segment: PathBuf,
    /// Where in the file.
    pub bytes: Range<u64>,
}

/// Copies everything readable of the archive directory `dir` into the directory `out`. Reports which frames are lost.
///
/// `out` must be empty or missing. The whole copy is on stable storage when the function returns. Until then `out`
/// holds a mark file, and [`open`](fn@crate::open) and every command refuse the directory. Blocks on the file system.
///
/// # Errors
/// [`RepairError`]. After [`RepairError::Stopped`] the copy is incomplete. Any other error leaves no copy.
pub fn repair(dir: &Path, out: &Path) -> Result<RepairReport, RepairError> {
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage);
    let _source_lock = lock(&*storage, dir)?;
    prepare(&*storage, dir, out)?;
    let _target_lock = lock(&*storage, out)?;
    let source = Dir::new(Arc::clone(&storage), dir.to_owned());
    let target = Dir::new(storage, out.to_owned());
    copy_marked(&source, &target).map_err(|source| RepairError::Stopped { dir: target.path.clone(), source })
}

/// Copies `source` to `target`. `target` holds the mark from before the first write until the whole copy is durable.
fn copy_marked(source: &Dir, target: &Dir) -> Result<RepairReport, ReadError> {
    let mark = target.repair_mark();
    target.open(&mark, Access::Create)?.sync_data().context("sync", &mark)?;
    target.sync()?;
    let report = copy::copy(source, target)?;
    target.remove(&mark)?;
    target.sync()?;
    Ok(report)
}

fn lock(storage: &dyn Storage, dir: &Path) -> Result<Lock, RepairError> {
    dir::lock(storage, dir)?.ok_or_else(|| RepairError::Locked(dir.to_owned()))
}

/// Creates `out`. `out` must be empty and must not lie in `dir`.
fn prepare(storage: &dyn Storage, dir: &Path, out: &Path) -> Result<(), RepairError> {
    if is_inside(out, dir)? {
        return Err(RepairError::Inside(out.to_owned()));
    }
    storage.create_dir(out).context("create", out)?;
    if out.join(REPAIR_MARK).symlink_metadata().is_ok() {
        return Err(RepairError::Incomplete(out.to_owned()));
    }
    if std::fs::read_dir(out).context("list", out)?.next().is_some() {
        return Err(RepairError::NotEmpty(out.to_owned()));
    }
    Ok(())
}

/// Whether `path`, which may not exist, lies in `dir` or is `dir`. Symbolic links are followed.
fn is_inside(path: &Path, dir: &Path) -> Result<bool, StorageError> {
    let real = |path: &Path| std::fs::canonicalize(path).context("find", path);
    match path.ancestors().find(|path| path.exists()) {
        Some(existing) => Ok(real(existing)?.starts_with(real(dir)?)),
        None => Ok(false),
    }
}
