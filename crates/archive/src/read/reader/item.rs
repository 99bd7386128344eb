//! The items that a reader returns.

use std::ops::Range;
use std::path::PathBuf;

use crate::StorageError;
use crate::format::VERSION;
use frame::Frame;

/// A frame of the log.
#[derive(Clone, Debug)]
pub struct StoredFrame {
    /// Offset in the log.
    pub offset: u64,
    /// The frame; its payload is a slice of the block.
    pub frame: Frame,
}

/// Bytes of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub segment: PathBuf,
    /// Where in the file, in bytes.
    pub bytes: Range<u64>,
    /// Offsets of the lost frames. Empty if the damage hit no frame.
    pub offsets: Range<u64>,
    /// Whether the log already records the loss. Recovery and repair write these records.
    pub recorded: bool,
}

/// A segment whose header has another offset than its name, such as a copy under a wrong name. Readers skip it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misnamed {
    /// The file.
    pub segment: PathBuf,
    /// Offset of the first frame by the file name.
    pub name_offset: u64,
    /// Offset of the first frame by the header.
    pub header_offset: u64,
}

/// What a [`Reader`](super::Reader) returns.
#[derive(Clone, Debug)]
pub enum Item {
    /// A frame.
    Frame(StoredFrame),
    /// Damage. Reading continues behind it.
    Damage(Damage),
    /// Requested offsets that retention has removed. Reading continues behind them.
    ///
    /// A request from offset 0 on gets this item too if the oldest frames are removed. A caller that means "from the
    /// oldest frame that is kept" ignores the item.
    Expired(Range<u64>),
}

/// Why [`Reader::visit`](super::Reader::visit) has returned.
#[derive(Clone, Debug)]
pub enum Visited {
    /// The visitor broke off, or the limit is reached.
    Enough,
    /// Frames are missing. The item is never [`Item::Frame`].
    Gap(Item),
    /// The log has no more frames at this time.
    End,
}

/// Why reading ends early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A segment of another version of the format.
    #[error("segment {path} has format version {found}, this program knows {VERSION}", path = path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// A segment of another archive among those of this one. Reading ends, because its offsets mean other frames.
    #[error(
        "segment {path} belongs to another archive (log {found:016x}, expected {expected:016x}): move the file to another \
         directory",
        path = path.display()
    )]
    Mixed {
        /// The segment.
        path: PathBuf,
        /// The log of this segment.
        found: u64,
        /// The log of the segments before this one, or of the daemon.
        expected: u64,
    },
}

impl ReadError {
    /// Whether the process or the host has too many open files. The error is temporary.
    #[must_use]
    pub fn is_too_many_files(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_too_many_files())
    }
}
