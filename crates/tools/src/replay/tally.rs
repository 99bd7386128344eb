//! The counters of a run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use client::Connections;

/// Counters of a run. Share them with [`run`](super::run) and read them with [`Progress::counts`].
#[derive(Debug, Default)]
pub struct Progress {
    pub(super) read: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) already: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) streams: AtomicU64,
    pub(super) first_offset: AtomicU64,
    pub(super) offset: AtomicU64,
    pub(super) end_offset: AtomicU64,
    pub(super) received_ns: AtomicI64,
    /// The connections of all streams.
    pub connections: Connections,
}

/// A copy of the counters of [`Progress`]. They are read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames of the range that came due.
    pub read: u64,
    /// Frames written at least once.
    pub sent: u64,
    /// Writes of frames that had been written before.
    pub resent: u64,
    /// Frames that the daemon reported as durable. Frames that it already had count too.
    pub acked: u64,
    /// Frames never written, because the daemon had them from an earlier run.
    pub already: u64,
    /// Frames that the daemon dropped as duplicates, according to its ACKs.
    pub duplicates: u64,
    /// Connections after WELCOME that were lost and followed by another.
    pub reconnects: u64,
    /// Open connections after WELCOME.
    pub connected: u64,
    /// Streams that had a frame.
    pub streams: u64,
    /// Offset of the first frame that came due.
    pub first_offset: u64,
    /// Offset behind the last frame that came due.
    pub offset: u64,
    /// Offset behind the range.
    pub end_offset: u64,
    /// Receive time of the last frame that came due, unix nanoseconds.
    pub received_ns: i64,
}

impl Progress {
    /// Sets the offsets between which the range lies.
    pub(crate) fn set_range(&self, first_offset: u64, end_offset: u64) {
        self.first_offset.store(first_offset, Relaxed);
        self.offset.store(first_offset, Relaxed);
        self.end_offset.store(end_offset, Relaxed);
    }

    /// A copy of the counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            acked: self.acked.load(Relaxed),
            already: self.already.load(Relaxed),
            sent: self.sent.load(Relaxed),
            resent: self.resent.load(Relaxed),
            read: self.read.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            connected: self.connections.count(),
            streams: self.streams.load(Relaxed),
            first_offset: self.first_offset.load(Relaxed),
            offset: self.offset.load(Relaxed),
            end_offset: self.end_offset.load(Relaxed),
            received_ns: self.received_ns.load(Relaxed),
        }
    }
}
