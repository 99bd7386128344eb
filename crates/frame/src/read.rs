//! The memory that sockets are read into, and its reuse.

use std::sync::{Arc, Mutex, PoisonError};

use super::{FrameMeta, FramePriority, Lanes};

/// The bytes of one read, and the frames found in them.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    /// The bytes as they were read.
    pub bytes: Vec<u8>,
    /// The frames whose payloads are in `bytes`.
    pub metas: Lanes<Vec<FrameMeta>>,
}

impl ReadBuffer {
    /// Memory of the buffer, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let metas: usize = self.metas.values().map(Vec::capacity).sum();
        self.bytes.capacity() + metas * size_of::<FrameMeta>()
    }

    /// Copies the frames of `priority` into memory of exactly their size.
    #[must_use]
    pub fn compact(&self, priority: FramePriority) -> Self {
        self.compact_part(priority, &self.metas[priority])
    }

    /// Copies the frames with `metas`, of `priority`, into memory of exactly their size.
    pub(super) fn compact_part(&self, priority: FramePriority, metas: &[FrameMeta]) -> Self {
        let mut copy = Self { bytes: Vec::with_capacity(payload_bytes(metas)), ..Self::default() };
        copy.metas[priority].reserve_exact(metas.len());
        copy.extend(priority, metas, self, 0);
        copy
    }

    /// Appends the frames with `metas`, of `priority`, from `other`, which was read `after_us` later.
    /// Reserves room for these frames, or for an eighth of the existing content if that is more.
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

    /// Memory that the frames of `priority` would take alone, in bytes.
    pub(super) fn compact_weight(&self, priority: FramePriority) -> usize {
        let metas = &self.metas[priority];
        payload_bytes(metas) + size_of_val(metas.as_slice())
    }

    /// Memory of the buffer after [`ReadBuffer::trim`], in bytes.
    pub(super) fn trimmed_weight(&self) -> usize {
        self.bytes.capacity() + self.metas.values().map(|metas| size_of_val(metas.as_slice())).sum::<usize>()
    }

    /// Frees the unused room for metas.
    pub(super) fn trim(&mut self) {
        self.metas.values_mut().for_each(Vec::shrink_to_fit);
    }

    /// The payload of the frame with `meta`.
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

/// Makes room for `more` elements, or for an eighth of `list` if that is more.
fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 8));
    }
}

/// Free buffers of one size.
///
/// Under load, buffers return as fast as they are taken. Without the pool, the system would free and allocate
/// that memory each time, which costs more than reading into it. An idle connection has no buffer.
#[derive(Debug)]
pub struct BufferPool {
    free: Mutex<Vec<ReadBuffer>>,
    buffer_bytes: usize,
    free_max: usize,
}

impl BufferPool {
    /// A pool of buffers of `buffer_bytes`. It keeps up to `free_max` free buffers.
    #[must_use]
    pub fn new(buffer_bytes: usize, free_max: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), buffer_bytes, free_max })
    }

    /// Takes an empty buffer with room for the pool's `buffer_bytes`.
    #[must_use]
    pub fn take(&self) -> ReadBuffer {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| ReadBuffer {
            bytes: Vec::with_capacity(self.buffer_bytes),
            metas: Default::default(),
        })
    }

    /// Takes `buffer` back for reuse. A buffer of another size is freed.
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
    fn a_returned_buffer_is_empty_and_keeps_its_capacity() {
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
    fn the_pool_keeps_only_its_limit_and_its_size() {
        let pool = BufferPool::new(100, 1);
        let (one, two) = (pool.take(), pool.take());
        pool.give(one);
        pool.give(two);
        pool.give(ReadBuffer { bytes: Vec::with_capacity(50), ..ReadBuffer::default() });
        assert_eq!(pool.free.lock().unwrap().len(), 1);
    }
}
