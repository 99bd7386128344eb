//! Writes the index files of sealed segments.

use std::path::Path;
use std::sync::Arc;

use crate::OpenError;
use crate::format::names::{UNFINISHED_INDEX, index_name};
use crate::read::index::{Content, NoIndex, PendingIndex, is_sound, walk};
use crate::storage::dir::{Dir, lock};
use crate::storage::{Access, Context, Storage, StorageError, write_all_at};

/// The result of an attempt to write an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// The index is in place and durable.
    Written {
        /// Length of its file.
        bytes: u64,
    },
    /// The disk has no space for the index. The attempt leaves no file and can be repeated when there is space.
    NoSpace,
    /// The segment gets no index.
    Without(NoIndex),
}

/// The limits under which an index is built.
pub(crate) struct BuildLimits<'a> {
    /// Bytes on the disk that must stay free for the log.
    pub(crate) spare_bytes: u64,
    /// Returns whether to stop. Called before each block.
    pub(crate) is_stopped: &'a dyn Fn() -> bool,
}

impl BuildLimits<'_> {
    /// No limits.
    pub(crate) const NONE: Self = Self { spare_bytes: 0, is_stopped: &|| false };
}

/// As [`build_from`], but always walks the segment.
pub(crate) fn build(dir: &Dir, base: u64, limits: &BuildLimits<'_>) -> Result<Built, StorageError> {
    build_from(dir, base, limits, || None)
}

/// Writes the index of the sealed segment `base` and replaces an older one.
///
/// Takes the index that `ready` returns. If there is none, or it does not cover the whole file, builds the index by one
/// walk over the segment. The walk holds the index, whose extent lists are bounded, and one block in memory. A crash
/// leaves at most a file `.idx.tmp`, see [`Dir::remove_stale`]. Only the holder of the lock of a directory may build
/// indexes there, one at a time.
pub(crate) fn build_from(
    dir: &Dir,
    base: u64,
    limits: &BuildLimits<'_>,
    ready: impl FnOnce() -> Option<PendingIndex>,
) -> Result<Built, StorageError> {
    let is_short = |bytes: u64| Ok(dir.free_bytes()? < bytes.saturating_add(limits.spare_bytes));
    if is_short(0)? {
        return Ok(Built::NoSpace);
    }
    if (limits.is_stopped)() {
        return Ok(Built::Without(NoIndex::Stopped));
    }
    let len = dir.size(&dir.segment(base))?;
    let content = match ready().filter(|ready| ready.covered() == len) {
        Some(ready) => ready.content(),
        None => match walk(dir, base, limits.is_stopped)? {
            Ok(content) => content,
            Err(why) => return Ok(Built::Without(why)),
        },
    };
    if is_short(content.len())? {
        return Ok(Built::NoSpace);
    }
    let unfinished = dir.side_file(base, UNFINISHED_INDEX);
    match install(dir, base, &unfinished, &content) {
        Ok(()) => Ok(Built::Written { bytes: content.len() }),
        Err(error) if error.is_no_space() => {
            // A partial index would take space that the log needs.
            dir.remove(&unfinished)?;
            Ok(Built::NoSpace)
        }
        Err(error) => Err(error),
    }
}

fn install(dir: &Dir, base: u64, unfinished: &Path, content: &Content) -> Result<(), StorageError> {
    let file = dir.open(unfinished, Access::Create)?;
    let mut at = 0;
    for part in content.parts() {
        write_all_at(&*file, part, at).context("write", unfinished)?;
        at += part.len() as u64;
    }
    file.sync_data().context("sync", unfinished)?;
    dir.rename(unfinished, &dir.path.join(index_name(base)))?;
    dir.sync()
}

/// Writes the missing indexes of the archive in `path`, which no daemon may have open. A running daemon writes them
/// itself.
///
/// Returns the number of indexes written. Skips damaged segments, and indexes for which the disk has no space.
///
/// # Errors
/// [`OpenError::Locked`] while a daemon runs, [`OpenError::Storage`] when the directory or a segment cannot be read.
pub fn build_indexes(storage: Arc<dyn Storage>, path: &Path) -> Result<usize, OpenError> {
    let _lock = lock(&*storage, path)?.ok_or_else(|| OpenError::Locked(path.to_owned()))?;
    let dir = Dir::new(storage, path.to_owned());
    dir.remove_stale(&dir.list()?)?;
    let mut written = 0;
    for base in dir.segments()? {
        if !is_sound(&dir, base)? && matches!(build(&dir, base, &BuildLimits::NONE)?, Built::Written { .. }) {
            written += 1;
        }
    }
    Ok(written)
}
