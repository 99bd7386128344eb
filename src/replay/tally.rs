//! The counters of a run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

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
    pub(super) connected: AtomicU64,
    pub(super) streams: AtomicU64,
    pub(super) first_offset: AtomicU64,
    pub(super) offset: AtomicU64,
    pub(super) end_offset: AtomicU64,
    pub(super) received_ns: AtomicI64,
    trouble: Mutex<Option<String>>,
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
            connected: self.connected.load(Relaxed),
            streams: self.streams.load(Relaxed),
            first_offset: self.first_offset.load(Relaxed),
            offset: self.offset.load(Relaxed),
            end_offset: self.end_offset.load(Relaxed),
            received_ns: self.received_ns.load(Relaxed),
        }
    }

    /// The reason why a stream last lost its connection or got none.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, trouble: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.to_owned());
    }

    /// Counts a connection while the guard lives.
    pub(super) fn connected(&self) -> Connected<'_> {
        self.connected.fetch_add(1, Relaxed);
        Connected(self)
    }
}

/// One connection after WELCOME.
pub(super) struct Connected<'a>(&'a Progress);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Relaxed);
    }
}
