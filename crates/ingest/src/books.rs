//! The books: received = archived + not stored + duplicates + rejected + in flight, in frames.

use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use frame::{FrameRun, Lanes};
use wire::ErrorCode;

/// Frames accepted in one lane. Duplicates and refused frames do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCount {
    /// Number of frames.
    pub frames: u64,
    /// Sum of their payload lengths.
    pub payload_bytes: u64,
}

impl LaneCount {
    pub(super) fn of(run: &FrameRun) -> Self {
        let payload_bytes = run.metas().iter().map(|meta| u64::from(meta.payload_len)).sum();
        Self { frames: run.len() as u64, payload_bytes }
    }
}

/// Counters of one stream, or of all streams. Each counter counts at its own stage. No counter is derived
/// from another.
///
/// One call counts an event in the books of the stream and in the books of all streams.
#[derive(Debug, Default)]
pub struct Books {
    /// The books of all streams. `None` in the books of all streams themselves.
    all: Option<Arc<Books>>,
    /// FRAME messages read, including duplicates and refused ones.
    received: AtomicU64,
    /// Dropped because they had been accepted before.
    duplicates: AtomicU64,
    /// Handed to the pipeline.
    accepted: Lanes<Lane>,
    /// Synced to disk.
    archived: AtomicU64,
    /// Processed and, as configured, not archived.
    not_stored: AtomicU64,
    /// Refused, by the error code that the peer got.
    rejected: [AtomicU64; ErrorCode::ALL.len()],
}

/// The counters of one lane, see [`LaneCount`].
#[derive(Debug, Default)]
struct Lane {
    /// Number of frames.
    frames: AtomicU64,
    /// Sum of their payload lengths.
    payload_bytes: AtomicU64,
}

/// A snapshot of [`Books`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// FRAME messages read.
    pub received: u64,
    /// Handed to the pipeline.
    pub accepted: u64,
    /// Synced to disk.
    pub archived: u64,
    /// Replays that passed and, with `archive.store_replays = false`, are not archived.
    pub not_stored: u64,
    /// Dropped because they had been accepted before.
    pub duplicates: u64,
    /// Refused, for any reason.
    pub rejected: u64,
}

impl Books {
    /// The books of one stream. They count for `all` as well.
    pub(super) fn of_stream(all: &Arc<Self>) -> Self {
        Self { all: Some(Arc::clone(all)), ..Self::default() }
    }

    /// These books, and those of all streams.
    fn each(&self) -> impl Iterator<Item = &Self> {
        once(self).chain(self.all.as_deref())
    }

    /// Counts FRAME messages read, the duplicates among them, and the one message that was refused with
    /// `rejected`.
    pub(super) fn add_received(&self, frames: u64, duplicates: u64, rejected: Option<ErrorCode>) {
        for books in self.each() {
            books.received.fetch_add(frames, Relaxed);
            books.duplicates.fetch_add(duplicates, Relaxed);
        }
        if let Some(code) = rejected {
            self.add_rejected(code, 1);
        }
    }

    /// Counts frames handed to the pipeline.
    pub(super) fn add_accepted(&self, counts: &Lanes<LaneCount>) {
        for books in self.each() {
            for (priority, count) in counts.iter().filter(|(_, count)| count.frames > 0) {
                let lane = &books.accepted[priority];
                lane.frames.fetch_add(count.frames, Relaxed);
                lane.payload_bytes.fetch_add(count.payload_bytes, Relaxed);
            }
        }
    }

    /// Frames handed to the pipeline.
    #[must_use]
    pub fn lanes(&self) -> Lanes<LaneCount> {
        self.accepted.each_ref().map(|lane| LaneCount {
            frames: lane.frames.load(Relaxed),
            payload_bytes: lane.payload_bytes.load(Relaxed),
        })
    }

    /// Counts frames that are synced to disk.
    pub(super) fn add_archived(&self, frames: u64) {
        self.each().for_each(|books| _ = books.archived.fetch_add(frames, Relaxed));
    }

    /// Counts frames that have passed the pipeline and are not archived.
    pub(super) fn add_not_stored(&self, frames: u64) {
        self.each().for_each(|books| _ = books.not_stored.fetch_add(frames, Relaxed));
    }

    /// Counts frames refused with `code`.
    pub(super) fn add_rejected(&self, code: ErrorCode, frames: u64) {
        self.each().for_each(|books| _ = books.rejected[code as usize - 1].fetch_add(frames, Relaxed));
    }

    /// Frames refused with `code`.
    #[must_use]
    pub fn rejected(&self, code: ErrorCode) -> u64 {
        self.rejected[code as usize - 1].load(Relaxed)
    }

    fn rejected_by_code(&self) -> Vec<(ErrorCode, u64)> {
        let all = ErrorCode::ALL.into_iter().map(|code| (code, self.rejected(code)));
        all.filter(|(_, frames)| *frames > 0).collect()
    }

    /// Returns the counters, and the refused frames by code. The codes add up to `rejected`.
    #[must_use]
    pub fn observed(&self) -> (Totals, Vec<(ErrorCode, u64)>) {
        // Read first: everything that is settled must be read before `received`.
        let by_code = self.rejected_by_code();
        let rejected = by_code.iter().map(|(_, frames)| frames).sum();
        (Totals { rejected, ..self.totals() }, by_code)
    }

    /// Returns the counters. While frames move, the counters are read one after the other and may not
    /// balance.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            archived: self.archived.load(Relaxed),
            not_stored: self.not_stored.load(Relaxed),
            accepted: self.accepted.values().map(|lane| lane.frames.load(Relaxed)).sum(),
            duplicates: self.duplicates.load(Relaxed),
            rejected: self.rejected.iter().map(|count| count.load(Relaxed)).sum(),
            received: self.received.load(Relaxed),
        }
    }
}

impl Totals {
    /// Frames received and not yet settled.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.received.saturating_sub(self.archived + self.not_stored + self.duplicates + self.rejected)
    }

    /// Frames handed to the pipeline that have not passed it. When the pipeline has ended, these frames are
    /// lost.
    #[must_use]
    pub const fn undelivered(&self) -> u64 {
        self.accepted.saturating_sub(self.archived + self.not_stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_streams_are_added_to_the_total_books() {
        let all = Arc::new(Books::default());
        let streams = [Books::of_stream(&all), Books::of_stream(&all)];
        for stream in &streams {
            stream.add_received(10, 2, Some(ErrorCode::Protocol));
            stream.add_accepted(&Lanes::both(LaneCount { frames: 3, payload_bytes: 30 }));
            stream.add_rejected(ErrorCode::TakenOver, 1);
            stream.add_archived(4);
            stream.add_not_stored(1);
        }
        let of_one =
            Totals { received: 10, accepted: 6, archived: 4, not_stored: 1, duplicates: 2, rejected: 2 };
        assert_eq!(streams.map(|stream| stream.totals()), [of_one; 2]);
        assert_eq!((of_one.in_flight(), of_one.undelivered()), (1, 1));
        let sums =
            Totals { received: 20, accepted: 12, archived: 8, not_stored: 2, duplicates: 4, rejected: 4 };
        assert_eq!(all.totals(), sums);
        assert_eq!(all.lanes(), Lanes::both(LaneCount { frames: 6, payload_bytes: 60 }));
        assert_eq!((all.rejected(ErrorCode::Protocol), all.rejected(ErrorCode::TakenOver)), (2, 2));
    }
}
