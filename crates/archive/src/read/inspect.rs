//! Inspects an archive directory of this host: its segments, its indexes, segments under wrong names.
//!
//! Nothing here takes the lock of the directory or writes. A daemon may write the archive at the same time: a segment
//! that retention removes between two steps is skipped.

mod files;
mod indexes;
mod misnamed;
mod segments;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::error::incomplete;
use crate::format::names::REPAIR_MARK;
use crate::storage::dir::refuse_beyond_offsets;
use crate::{DiskStorage, StorageError};

pub use crate::format::names::segment_name;
pub use crate::read::index::IndexState;
pub use files::{end_offset, list_segments, list_without_misnamed, log_id};
pub use indexes::{CheckedIndex, check_indexes};
pub use misnamed::misnamed_segments;
pub use segments::{HeaderInfo, SegmentInfo, Segments, segments};

/// Why a directory cannot be used as an archive.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The directory holds what an interrupted repair left.
    #[error("{}", incomplete(.0))]
    Incomplete(PathBuf),
    /// The directory cannot be listed, or holds a segment at an offset that no frame can have.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Whether the directory `dir` holds the segments of an archive.
///
/// # Errors
/// [`InspectError`] when the directory holds segments that must not be used, or cannot be listed.
pub fn holds_archive(dir: &Path) -> Result<bool, InspectError> {
    if dir.join(REPAIR_MARK).symlink_metadata().is_ok() {
        return Err(InspectError::Incomplete(dir.to_owned()));
    }
    refuse_beyond_offsets(&DiskStorage, dir)?;
    Ok(!list_segments(dir)?.is_empty())
}

/// The base offset in the name of the oldest segment in `dir`; 0 if there is no segment.
///
/// # Errors
/// [`StorageError`] when the directory cannot be listed.
pub fn oldest_offset(dir: &Path) -> Result<u64, StorageError> {
    Ok(list_segments(dir)?.first().copied().unwrap_or(0))
}
