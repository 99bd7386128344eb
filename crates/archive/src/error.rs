//! The errors of the archive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::names::REPAIR_MARK;
use crate::{BATCH_FRAMES_MAX, ConfigError, StorageError};

/// Why the archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another process holds the lock of the directory.
    #[error("archive {dir} is in use: another process holds its lock", dir = .0.display())]
    Locked(PathBuf),
    /// The directory holds what an interrupted repair left.
    #[error("{}", incomplete(.0))]
    Incomplete(PathBuf),
    /// A segment has another version of the format.
    #[error("segment {path} has format version {found}, this program knows {expected}", path = path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The only version that this program reads.
        expected: u16,
    },
    /// A segment is misnamed: its header has another base offset than its name.
    #[error(
        "segment {path} begins at offset {found} by its header, which contradicts its name; archive verify says what to do",
        path = path.display()
    )]
    Misnamed {
        /// The segment.
        path: PathBuf,
        /// The base offset in its header.
        found: u64,
    },
    /// The directory holds segments of two archives.
    #[error(
        "segments {path} and {other} belong to different archives (log {log_id:016x} and {other_log_id:016x}): move the \
         segment that was copied here, and the files that came with it, to another directory and start again; the daemon \
         does not start before that, because it would report positions of the other archive to clients",
        path = path.display(), other = other.display()
    )]
    Mixed {
        /// The newer segment.
        path: PathBuf,
        /// The id of its log.
        log_id: u64,
        /// An older one.
        other: PathBuf,
        /// The id of the log of the older segment.
        other_log_id: u64,
    },
    /// The disk has no space for the part of the tail that recovery keeps.
    #[error("no space to recover the archive in {dir}: {free_bytes} bytes free", dir = dir.display())]
    NoSpace {
        /// The directory.
        dir: PathBuf,
        /// Free bytes on its file system.
        free_bytes: u64,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread of the archive: {0}")]
    Thread(std::io::Error),
}

/// The error text for a directory `dir` that an interrupted repair left.
pub(super) fn incomplete(dir: &Path) -> String {
    format!(
        "{} is not a complete archive: archive repair was interrupted and left the file {REPAIR_MARK}; remove this \
         directory and repair the damaged archive again",
        dir.display()
    )
}

/// Why the archive did not accept a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The archive has failed and writes nothing.
    #[error("the archive has failed: {0}")]
    Failed(Arc<str>),
    /// The batch exceeds a limit that the caller must keep.
    #[error(
        "a batch of {frames} frames and {bytes} bytes, at most {BATCH_FRAMES_MAX} and {bytes_max} are allowed"
    )]
    Oversized {
        /// Frames in the batch.
        frames: usize,
        /// Most bytes of the log that they can take, see [`log_bytes_max`](crate::log_bytes_max).
        bytes: u64,
        /// The largest sum that a batch may have.
        bytes_max: u64,
    },
}

/// Why positions were not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionEditError {
    /// Another edit is under way.
    #[error("another reset of an epoch or forgetting of streams is under way; ask again")]
    Busy,
    /// There is no space for a new segment, or no file can be opened.
    #[error(
        "the archive has no space for the segment that this begins, or cannot open files; see its status and ask again"
    )]
    NoSpace,
    /// The archive has failed or ended and writes nothing.
    #[error("the archive has failed: {0}")]
    Failed(Arc<str>),
}

/// Why the archive ended before it had written everything.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed. Frames that were not acknowledged may be lost.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The commit thread panicked.
    #[error("the commit thread panicked: {0}")]
    Panicked(String),
}
