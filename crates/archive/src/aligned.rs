//! Memory that starts at a multiple of a page, as direct writes need it.
//!
//! A buffer allocates a little more memory than it needs, and the content starts at the first page in that memory. This
//! needs no allocator of its own and no `unsafe`.

use std::ops::{Deref, DerefMut};

/// Smallest alignment of direct writes, in bytes: enough for any disk in use.
pub(crate) const PAGE_BYTES: usize = 4_096;
/// Initial capacity of a [`GrowingBuffer`], in bytes.
const CAPACITY_MIN: usize = 64 << 10;

/// A buffer of fixed length.
pub(crate) struct AlignedBuffer {
    /// The memory never grows, so it never moves.
    memory: Vec<u8>,
    /// Index of the content in `memory`: the first address there that is a multiple of the alignment.
    start: usize,
    /// Bytes of the content.
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros that start at a multiple of `alignment`, a power of two.
    pub(crate) fn zeroed(len: usize, alignment: usize) -> Self {
        let memory = vec![0; len + alignment];
        let start = memory.as_ptr().align_offset(alignment);
        Self { memory, start, len }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// A reusable buffer whose content starts at a multiple of [`PAGE_BYTES`].
///
/// The content moves only in [`Self::reserve`]. Once the buffer has room for the largest content, it does not move.
#[derive(Default)]
pub(crate) struct GrowingBuffer {
    /// Filler up to `start`, then the content.
    memory: Vec<u8>,
    /// Index of the content in `memory`. It is at a page once the buffer has grown.
    start: usize,
}

impl GrowingBuffer {
    /// Makes room for `additional` bytes behind the content.
    pub(crate) fn reserve(&mut self, additional: usize) {
        if self.memory.capacity() - self.memory.len() < additional {
            self.grow(additional);
        }
    }

    #[cold]
    fn grow(&mut self, additional: usize) {
        let capacity = (self.len() + additional).next_power_of_two().max(CAPACITY_MIN);
        let mut memory: Vec<u8> = Vec::with_capacity(capacity + PAGE_BYTES);
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        memory.resize(start, 0);
        memory.extend_from_slice(self);
        *self = Self { memory, start };
    }

    /// Appends `bytes`. If [`Self::reserve`] has not made room for them, the content may move to any address.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
    }

    /// Cuts the content to `len` bytes, or appends zeros up to there.
    pub(crate) fn resize(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len()));
        self.memory.resize(self.start + len, 0);
    }
}

impl Deref for GrowingBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl DerefMut for GrowingBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_buffer_starts_at_a_page() {
        for alignment in [PAGE_BYTES, 4 * PAGE_BYTES] {
            let mut buffer = AlignedBuffer::zeroed(3 * PAGE_BYTES, alignment);
            assert_eq!((buffer.as_ptr().align_offset(alignment), buffer.len()), (0, 3 * PAGE_BYTES));
            buffer.fill(7);
        }
    }

    #[test]
    fn a_growing_buffer_keeps_its_content_and_starts_at_a_page() {
        let mut buffer = GrowingBuffer::default();
        for round in 0..3_000_u32 {
            let bytes = round.to_le_bytes().repeat(16);
            buffer.reserve(bytes.len());
            buffer.push(&bytes);
            assert_eq!(buffer.as_ptr().align_offset(PAGE_BYTES), 0);
        }
        assert_eq!(buffer.len(), 3_000 * 64);
        assert!(buffer.chunks(64).zip(0_u32..).all(|(bytes, round)| bytes == round.to_le_bytes().repeat(16)));
        let (before, len) = (buffer.as_ptr(), buffer.len());
        buffer.resize(0);
        buffer.resize(len);
        assert_eq!(buffer.as_ptr(), before, "it is used again");
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
}
