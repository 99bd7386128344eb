//! Hands sealed segments from the commit thread to maintenance.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::read::index;

/// Which segment is being written, and the indexes of the segments that were sealed.
#[derive(Default)]
pub(crate) struct SegmentHandover {
    /// Base of the segment being written. Only segments below this offset are sealed.
    current_base: AtomicU64,
    /// Bytes of the segment being written, including space allocated ahead.
    current_bytes: AtomicU64,
    /// Indexes of sealed segments that maintenance has not taken, in log order.
    indexes: Mutex<VecDeque<index::PendingIndex>>,
}

impl SegmentHandover {
    /// Records which segment is being written: its base, and its bytes. All segments below `base` are sealed. Returns
    /// whether `base` is new.
    pub(crate) fn set_current(&self, base: u64, bytes: u64) -> bool {
        self.current_bytes.store(bytes, Relaxed);
        let before = self.current_base.swap(base, AcqRel);
        assert!(before <= base, "the segment being written began at {before}, and the next one at {base}");
        before != base
    }

    pub(crate) fn current_base(&self) -> u64 {
        self.current_base.load(Acquire)
    }

    pub(crate) fn current_bytes(&self) -> u64 {
        self.current_bytes.load(Relaxed)
    }

    /// Stores the index of a segment that the commit thread has just sealed. The caller then calls
    /// [`Self::set_current`].
    ///
    /// All stored indexes together take at most [`index::PENDING_BYTES_MAX`] bytes. Above this limit the oldest ones
    /// are dropped, and maintenance builds their indexes from the segments.
    pub(crate) fn put_index(&self, index: index::PendingIndex) {
        let mut indexes = self.lock();
        indexes.push_back(index);
        while indexes.iter().map(index::PendingIndex::bytes).sum::<usize>() > index::PENDING_BYTES_MAX {
            indexes.pop_front();
        }
    }

    /// Takes the index of the segment `base`, if the commit thread stored one. Drops the indexes of older segments.
    pub(crate) fn take_index(&self, base: u64) -> Option<index::PendingIndex> {
        let mut indexes = self.lock();
        while indexes.front()?.base() < base {
            indexes.pop_front();
        }
        indexes.pop_front_if(|index| index.base() == base)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<index::PendingIndex>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
