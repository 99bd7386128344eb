//! What can go wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::REPAIR_MARK;
use super::{BATCH_FRAMES_MAX, ConfigError, StorageError};

/// Why the archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another process has the directory.
    #[error("archive {dir} is in use: another process holds its lock", dir = .0.display())]
    Locked(PathBuf),
    /// A part of an archive.
    #[error("{}", incomplete(.0))]
    Incomplete(PathBuf),
    /// A segment of another version of the format.
    #[error("segment {path} has format version {found}, this program knows {expected}", path = path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The one version known.
        expected: u16,
    },
    /// A segment under the wrong name.
    #[error(
        "segment {path} says that it begins at offset {found}, unlike its name; archive verify says what to do",
        path = path.display()
    )]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// The offset its header has.
        found: u64,
    },
    /// Segments of two archives in one directory.
    #[error(
        "segments {path} and {other} belong to different archives (log {log_id:016x} and {other_log_id:016x}): move the \
         one that was put here, with all that came with it, to another directory and start again; until then nothing \
         is accepted, since clients would be told of positions of the other archive",
        path = path.display(), other = other.display()
    )]
    Mixed {
        /// The newer segment.
        path: PathBuf,
        /// Its log.
        log_id: u64,
        /// An older one.
        other: PathBuf,
        /// Its log.
        other_log_id: u64,
    },
    /// Not even what was kept of the tail can be written.
    #[error("no space to recover the archive in {dir}: {free_bytes} bytes free", dir = dir.display())]
    NoSpace {
        /// The directory.
        dir: PathBuf,
        /// What is free on its file system.
        free_bytes: u64,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread of the archive: {0}")]
    Thread(std::io::Error),
}

/// Says that `dir` is what an interrupted repair left.
pub(super) fn incomplete(dir: &Path) -> String {
    format!(
        "{} is not an archive yet: archive repair was interrupted while it wrote it, and its file {REPAIR_MARK} is still \
         there; remove this directory and repair the damaged archive again",
        dir.display()
    )
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The archive has failed; nothing is written any more.
    #[error("the archive has failed: {0}")]
    Failed(Arc<str>),
    /// The batch breaks a limit that its maker should have kept.
    #[error(
        "a batch of {frames} frames and {bytes} bytes, at most {BATCH_FRAMES_MAX} and {bytes_max} are allowed"
    )]
    Oversized {
        /// Frames in the batch.
        frames: usize,
        /// Their charge.
        bytes: u64,
        /// The largest charge of a batch.
        bytes_max: u64,
    },
}

/// Why positions were not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// Another edit is under way.
    #[error("another reset of an epoch or forgetting of streams is under way; ask again")]
    Busy,
    /// There is no space for a new segment, or no file can be opened.
    #[error(
        "the archive has no space for the segment that this begins, or cannot open files; see its status and ask again"
    )]
    NoSpace,
    /// The archive has failed or ended; nothing is written any more.
    #[error("the archive has failed: {0}")]
    Failed(Arc<str>),
}

/// Why the archive ended otherwise than by having written everything.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed; what was not acknowledged may be lost.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The commit thread panicked.
    #[error("the commit thread panicked: {0}")]
    Panicked(String),
}
