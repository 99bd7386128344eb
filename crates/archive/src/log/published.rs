//! The state of the archive that other parts can read.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;

use frame::histogram::Histogram;

/// The state of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The archive works normally.
    Ok,
    /// The archive is out of disk space, or can open no more files. Emergencies are still written, routine waits. The
    /// archive returns to `Ok` by itself when there is enough.
    Degraded {
        /// Names the directory, the free space, and a remedy.
        reason: Arc<str>,
    },
    /// Storage failed or the commit thread panicked. The archive writes nothing until a restart recovers it.
    Failed {
        /// What failed.
        error: Arc<str>,
    },
}

/// Counters since the start; read them with any ordering.
#[derive(Debug, Default)]
pub struct ArchiveStats {
    /// Frames made durable.
    pub frames: AtomicU64,
    /// Bytes of the blocks that hold these frames.
    pub bytes: AtomicU64,
    /// Commits: blocks written and synced.
    pub commits: AtomicU64,
    /// How long each sync took.
    pub sync_times: Histogram,
    /// Segments begun after the first.
    pub rotations: AtomicU64,
    /// Times a commit had to wait because even the reserve was used up.
    pub space_waits: AtomicU64,
    /// Times that the commit thread or maintenance could not open a file, because too many files were open.
    pub file_shortages: AtomicU64,
    /// Segments of another archive that were set aside in `lost/`.
    pub foreign_segments: AtomicU64,
    /// Number of segments, the one being written included.
    pub segments: AtomicU64,
    /// Bytes of the segments and their side files, space allocated ahead included.
    pub segment_bytes: AtomicU64,
    /// Segments removed by retention.
    pub expired_segments: AtomicU64,
    /// Offsets that were removed with the expired segments.
    pub expired_frames: AtomicU64,
    /// Bytes of the segments removed and their side files.
    pub expired_bytes: AtomicU64,
    /// Errors of maintenance. None of them stops the archive; each is tried again.
    pub upkeep_errors: AtomicU64,
    /// Segments whose last maintenance failed. They wait for the next try.
    pub upkeep_failing: AtomicU64,
}

/// The result of a run of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Frames made durable since the start.
    pub frames: u64,
    /// Offset behind the last durable frame.
    pub next_offset: u64,
}

/// What the commit thread and maintenance publish.
pub(crate) struct Published {
    /// The commit thread sets it.
    pub(crate) status: watch::Sender<Status>,
    /// The routine limit of the gate, see `space.rs`. The commit thread raises it.
    pub(crate) routine_limit: watch::Sender<u64>,
    /// Offset behind the last durable frame. The commit thread raises it.
    pub(crate) watermark: watch::Sender<u64>,
    /// Offset of the oldest frame kept. Maintenance raises it.
    pub(crate) first_offset: watch::Sender<u64>,
    /// The counters. Each thread counts what it does.
    pub(crate) stats: Arc<ArchiveStats>,
}

impl Published {
    /// The state before the first commit, of a log that holds the offsets from `first_offset` up to `next_offset`.
    pub(crate) fn new(first_offset: u64, next_offset: u64) -> Self {
        Self {
            status: watch::Sender::new(Status::Ok),
            routine_limit: watch::Sender::new(0),
            watermark: watch::Sender::new(next_offset),
            first_offset: watch::Sender::new(first_offset),
            stats: Arc::default(),
        }
    }
}
