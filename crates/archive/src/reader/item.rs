//! What a reader comes upon.

use std::ops::Range;
use std::path::PathBuf;

use crate::StorageError;
use crate::format::VERSION;
use frame::Frame;

/// A frame of the log.
#[derive(Clone, Debug)]
pub struct StoredFrame {
    /// Its place in the log.
    pub offset: u64,
    /// The frame; its payload is a slice of the block.
    pub frame: Frame,
}

/// Bytes of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub segment: PathBuf,
    /// Where in the file.
    pub bytes: Range<u64>,
    /// Offsets of the frames lost; empty when the damage hit none.
    pub offsets: Range<u64>,
    /// Whether the log itself says that they are lost, so that this is no news: recovery or a repair has recorded it.
    pub recorded: bool,
}

/// A segment whose header says another offset than its name. It is not read, so that what is read does not depend on what
/// the names of copies happen to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misnamed {
    /// The file.
    pub segment: PathBuf,
    /// Where it begins by its name.
    pub name_offset: u64,
    /// Where it begins by its header.
    pub header_offset: u64,
}

/// What a [`Reader`](super::Reader) comes upon.
#[derive(Clone, Debug)]
pub enum Item {
    /// A frame.
    Frame(StoredFrame),
    /// Damage; reading goes on behind it.
    Damage(Damage),
    /// Offsets that were asked for and that retention has removed; reading goes on behind them. Also for who asks from
    /// offset 0 on: whether that was meant as "the oldest there is" only the caller knows.
    Expired(Range<u64>),
}

/// Why a [`Reader`](super::Reader) shows no more frames.
#[derive(Clone, Debug)]
pub enum Visited {
    /// The visitor has enough, or the limit is reached.
    Enough,
    /// Frames are missing: anything but a frame.
    Gap(Item),
    /// There are no more, by now.
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
    /// A segment of another archive among those of this one.
    #[error(
        "segment {path} belongs to another archive (log {found:016x}, expected {expected:016x}): move the file to another \
         directory",
        path = path.display()
    )]
    Mixed {
        /// The segment.
        path: PathBuf,
        /// Its log.
        found: u64,
        /// The log of the segments before it, or of the daemon.
        expected: u64,
    },
}

impl ReadError {
    /// Whether no file could be opened because the process or the host has too many open. It passes when others close.
    #[must_use]
    pub fn is_no_files(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_no_files())
    }
}
