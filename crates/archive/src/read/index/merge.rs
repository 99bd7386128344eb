//! Merges several extent lists and returns their frames in log order.
//!
//! Memory holds the encoded lists and the extents around the current frame. These extents lie in one block. An extent
//! ends where its frames lie far apart, so the extents take a few MiB at most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::{Entry, Extent, ExtentDecoder, Malformed};
use crate::StoredFrame;
use crate::format::{FRAME_HEADER_BYTES, RecordHeader, is_intact};
use crate::storage::{StorageFile, read_full_at};
use frame::{FramePriority, Origin};

/// A range of chunks that may hold requested frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    /// Where the chunks lie in the segment's file.
    pub(crate) positions: Range<u64>,
    /// The offsets of their frames.
    pub(crate) offsets: Range<u64>,
}

/// The state of a merge of extent lists over one segment.
pub(crate) struct Merge {
    /// The lists. An entry of the heap names a list by its index.
    lists: Vec<ExtentCursor>,
    /// Offset of the next frame of each list. `None` before the first call of [`Self::next`].
    heap: Option<BinaryHeap<Reverse<(u64, usize)>>>,
    /// Which extents are read.
    wanted: ExtentFilter,
}

/// Selects the extents to read.
struct ExtentFilter {
    /// Only extents in these ranges, which ascend.
    ranges: Vec<ChunkRange>,
    /// Only extents that may have frames from this offset on.
    from: u64,
}

impl ExtentFilter {
    /// Whether `extent` is read. `next` is the extent behind it in the list: its first offset bounds those of `extent`.
    fn takes(&self, extent: &Extent, next: Option<&Extent>) -> bool {
        let index = self.ranges.partition_point(|range| range.positions.end <= extent.position);
        self.ranges.get(index).is_some_and(|range| range.positions.contains(&extent.position))
            && next.is_none_or(|next| next.first_offset > self.from)
    }
}

impl Merge {
    /// Merges the extents of `lists` that lie in `ranges` and may hold frames from the offset `from` on.
    pub(super) fn new(lists: Vec<ExtentCursor>, ranges: Vec<ChunkRange>, from: u64) -> Self {
        Self { lists, heap: None, wanted: ExtentFilter { ranges, from } }
    }

    /// Returns the next frame of the segment `file` below the offset `below`, or `None` if there is none.
    ///
    /// # Errors
    /// [`Malformed`] if the lists do not match the segment, or the segment cannot be read at that place. All requested
    /// frames before that place have already been returned.
    pub(crate) fn next(
        &mut self,
        file: &dyn StorageFile,
        below: u64,
    ) -> Result<Option<StoredFrame>, Malformed> {
        let mut heap = match self.heap.take() {
            Some(heap) => heap,
            None => self.heads()?,
        };
        let frame = self.pop(&mut heap, file, below)?;
        self.heap = Some(heap);
        Ok(frame)
    }

    /// Moves each list to its first wanted extent.
    fn heads(&mut self) -> Result<BinaryHeap<Reverse<(u64, usize)>>, Malformed> {
        let mut heap = BinaryHeap::with_capacity(self.lists.len());
        for (index, list) in self.lists.iter_mut().enumerate() {
            list.ahead = list.extents.next()?;
            if let Some(offset) = list.next_extent(&self.wanted)? {
                heap.push(Reverse((offset, index)));
            }
        }
        Ok(heap)
    }

    /// Takes the frame with the lowest offset, and moves its list on.
    fn pop(
        &mut self,
        heap: &mut BinaryHeap<Reverse<(u64, usize)>>,
        file: &dyn StorageFile,
        below: u64,
    ) -> Result<Option<StoredFrame>, Malformed> {
        let Some(mut head) = heap.peek_mut() else {
            return Ok(None);
        };
        let Reverse((offset, index)) = *head;
        if offset >= below {
            return Ok(None);
        }
        let list = &mut self.lists[index];
        let frame = list.take(file)?;
        match list.advance(&self.wanted)? {
            // The offsets of a list must rise. Otherwise the same frame could be returned twice.
            Some(next) if next <= offset => return Err(Malformed),
            Some(next) => *head = Reverse((next, index)),
            None => _ = std::collections::binary_heap::PeekMut::pop(head),
        }
        Ok(Some(StoredFrame { offset, frame }))
    }
}

/// The extent list of one origin and lane.
pub(super) struct ExtentCursor {
    /// The origin of its frames.
    origin: Arc<Origin>,
    /// Their lane.
    priority: FramePriority,
    /// The rest of the list.
    extents: ExtentDecoder,
    /// The extent behind the current extent.
    ahead: Option<Extent>,
    /// The current extent; `None` before the first.
    extent: Option<Extent>,
    /// Bytes of the current extent, once they are read.
    bytes: Option<Bytes>,
    /// Position of the next frame in `bytes`.
    at: usize,
    /// Offset of the frame at `at`.
    offset: u64,
}

impl ExtentCursor {
    pub(super) fn new(entry: &Entry, extents: ExtentDecoder) -> Self {
        Self {
            origin: Arc::clone(&entry.origin),
            priority: entry.priority,
            extents,
            ahead: None,
            extent: None,
            bytes: None,
            at: 0,
            offset: 0,
        }
    }

    /// Moves to the next wanted extent. Returns the offset of its first frame.
    fn next_extent(&mut self, wanted: &ExtentFilter) -> Result<Option<u64>, Malformed> {
        self.bytes = None;
        loop {
            let Some(extent) = self.ahead else {
                return Ok(None);
            };
            self.ahead = self.extents.next()?;
            if wanted.takes(&extent, self.ahead.as_ref()) {
                self.extent = Some(extent);
                (self.at, self.offset) = (0, extent.first_offset);
                return Ok(Some(extent.first_offset));
            }
        }
    }

    /// Returns the current frame.
    fn take(&mut self, file: &dyn StorageFile) -> Result<frame::Frame, Malformed> {
        let extent = self.extent.ok_or(Malformed)?;
        let bytes = match &self.bytes {
            Some(bytes) => bytes,
            None => self.bytes.insert(read_extent(file, &extent)?),
        };
        let header = RecordHeader::read(bytes.get(self.at..).ok_or(Malformed)?).ok_or(Malformed)?;
        if header.origin != extent.origin || header.priority != self.priority {
            return Err(Malformed);
        }
        let start = self.at;
        self.at += header.frame_len();
        self.offset += 1;
        let payload = bytes.slice(start + FRAME_HEADER_BYTES..self.at);
        Ok(header.frame(Arc::clone(&self.origin), payload))
    }

    /// Moves to the next frame of this list. Returns its offset.
    fn advance(&mut self, wanted: &ExtentFilter) -> Result<Option<u64>, Malformed> {
        let (Some(extent), Some(bytes)) = (&self.extent, &self.bytes) else {
            return Err(Malformed);
        };
        while self.at < bytes.len() {
            let header = RecordHeader::read(&bytes[self.at..]).ok_or(Malformed)?;
            if header.origin == extent.origin && header.priority == self.priority {
                return Ok(Some(self.offset));
            }
            self.at += header.frame_len();
            self.offset = self.offset.checked_add(1).ok_or(Malformed)?;
        }
        self.next_extent(wanted)
    }
}

fn read_extent(file: &dyn StorageFile, extent: &Extent) -> Result<Bytes, Malformed> {
    // The decoder has checked the length against the length of the segment.
    let mut bytes = vec![0; extent.length as usize];
    let count = read_full_at(file, &mut bytes, extent.position).map_err(|_| Malformed)?;
    if count < bytes.len() || !is_intact(&bytes, extent.crc) {
        return Err(Malformed);
    }
    Ok(bytes.into())
}
