//! The memory that frames are read into, and used again when they are done with.

use std::sync::{Arc, Mutex, PoisonError};

use super::{FrameMeta, FramePriority, Lanes};

/// Bytes that were read in one go, and the frames found in them.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    /// As they were read.
    pub bytes: Vec<u8>,
    /// Whose payloads lie in `bytes`.
    pub metas: Lanes<Vec<FrameMeta>>,
}

impl ReadBuffer {
    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let metas: usize = self.metas.values().map(Vec::capacity).sum();
        self.bytes.capacity() + metas * size_of::<FrameMeta>()
    }

    /// The frames of `priority` in no more memory than they need.
    #[must_use]
    pub fn compact(&self, priority: FramePriority) -> Self {
        self.compact_part(priority, &self.metas[priority])
    }

    /// The frames with `metas`, of `priority`, in no more memory than they need.
    pub(super) fn compact_part(&self, priority: FramePriority, metas: &[FrameMeta]) -> Self {
        let mut copy = Self { bytes: Vec::with_capacity(payload_bytes(metas)), ..Self::default() };
        copy.metas[priority].reserve_exact(metas.len());
        copy.extend(priority, metas, self, 0);
        copy
    }

    /// Adds the frames with `metas`, of `priority`, from `other`, which was read `after_us` later. The room made for
    /// them exceeds what is there by an eighth at most.
    pub(super) fn append(
        &mut self,
        priority: FramePriority,
        metas: &[FrameMeta],
        other: &Self,
        after_us: u32,
    ) {
        reserve(&mut self.bytes, payload_bytes(metas));
        reserve(&mut self.metas[priority], metas.len());
        self.extend(priority, metas, other, after_us);
    }

    fn extend(&mut self, priority: FramePriority, metas: &[FrameMeta], other: &Self, after_us: u32) {
        let Self { bytes, metas: own } = self;
        own[priority].extend(metas.iter().map(|meta| {
            let payload_at = bytes.len() as u32;
            bytes.extend_from_slice(other.payload(meta));
            FrameMeta { payload_at, received_after_us: meta.received_after_us + after_us, ..*meta }
        }));
    }

    /// What the frames of `priority` would take alone, in bytes.
    pub(super) fn compact_weight(&self, priority: FramePriority) -> usize {
        let metas = &self.metas[priority];
        payload_bytes(metas) + size_of_val(metas.as_slice())
    }

    /// What it takes once it is trimmed.
    pub(super) fn trimmed_weight(&self) -> usize {
        self.bytes.capacity() + self.metas.values().map(|metas| size_of_val(metas.as_slice())).sum::<usize>()
    }

    /// Gives back the room for metas that is not used.
    pub(super) fn trim(&mut self) {
        self.metas.values_mut().for_each(Vec::shrink_to_fit);
    }

    /// The payload of the frame with `head`.
    #[must_use]
    #[inline]
    pub fn payload(&self, meta: &FrameMeta) -> &[u8] {
        &self.bytes[meta.payload_at as usize..][..meta.payload_len as usize]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.metas.values_mut().for_each(Vec::clear);
    }
}

fn payload_bytes(metas: &[FrameMeta]) -> usize {
    metas.iter().map(|meta| meta.payload_len as usize).sum()
}

/// Makes room for `more`, and for little besides.
fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 8));
    }
}

/// Buffers of one size that nobody uses now.
///
/// Under load a buffer comes back as fast as one is asked for: without the pool all of that memory would go back to the
/// system and be asked of it again, which costs more than reading into it. An idle connection has none.
#[derive(Debug)]
pub struct BufferPool {
    free: Mutex<Vec<ReadBuffer>>,
    buffer_bytes: usize,
    free_max: usize,
}

impl BufferPool {
    /// A pool of buffers of `buffer_bytes`, of which it keeps up to `free_max` while nobody uses them.
    #[must_use]
    pub fn new(buffer_bytes: usize, free_max: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), buffer_bytes, free_max })
    }

    /// An empty buffer, with room for so many bytes as the pool was made for.
    #[must_use]
    pub fn take(&self) -> ReadBuffer {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| ReadBuffer {
            bytes: Vec::with_capacity(self.buffer_bytes),
            metas: Default::default(),
        })
    }

    /// Takes `buffer` back, to be used again; one of another size is let go.
    pub fn give(&self, mut buffer: ReadBuffer) {
        if buffer.bytes.capacity() != self.buffer_bytes {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.free_max {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_with_the_room_it_had() {
        let pool = BufferPool::new(100, 1);
        let mut buffer = pool.take();
        assert_eq!(buffer.bytes.capacity(), 100);
        buffer.bytes.extend_from_slice(b"abc");
        let meta = FrameMeta { sequence: 1, payload_at: 1, payload_len: 2, ..FrameMeta::default() };
        buffer.metas.routine.push(meta);
        let at = buffer.bytes.as_ptr();
        pool.give(buffer);
        let again = pool.take();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len(), again.metas.routine.len()), (at, 0, 0));
    }

    #[test]
    fn no_more_than_the_limit_is_kept_and_none_of_another_size() {
        let pool = BufferPool::new(100, 1);
        let (one, two) = (pool.take(), pool.take());
        pool.give(one);
        pool.give(two);
        pool.give(ReadBuffer { bytes: Vec::with_capacity(50), ..ReadBuffer::default() });
        assert_eq!(pool.free.lock().unwrap().len(), 1);
    }
}
