//! Merges several run lists and returns their frames in log order.
//!
//! Memory holds the encoded lists and the runs around the current frame. These runs lie in one block. A run ends where
//! its frames lie far apart, so the runs take a few MiB at most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::{Entry, Malformed, Run, RunDecoder};
use crate::StoredFrame;
use crate::format::{FRAME_HEADER_BYTES, FrameHeader};
use crate::storage::{StorageFile, read_full_at};
use frame::{FramePriority, Origin};

/// A range of chunks that may hold requested frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) positions: Range<u64>,
    pub(crate) offsets: Range<u64>,
}

/// The state of a merge of run lists over one segment.
pub(crate) struct Merge {
    lists: Vec<List>,
    /// Offset of the next frame of each list. `None` before the first call of [`Self::next`].
    heap: Option<BinaryHeap<Reverse<(u64, usize)>>>,
    wanted: Wanted,
}

/// Selects the runs to read.
struct Wanted {
    spans: Vec<Span>,
    from: u64,
}

impl Wanted {
    fn takes(&self, run: &Run, next: Option<&Run>) -> bool {
        let index = self.spans.partition_point(|span| span.positions.end <= run.position);
        self.spans.get(index).is_some_and(|span| span.positions.contains(&run.position))
            && next.is_none_or(|next| next.first_offset > self.from)
    }
}

impl Merge {
    /// Merges the runs of `lists` that lie in `spans` and may hold frames from the offset `from` on.
    pub(super) fn new(lists: Vec<List>, spans: Vec<Span>, from: u64) -> Self {
        Self { lists, heap: None, wanted: Wanted { spans, from } }
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

    fn heads(&mut self) -> Result<BinaryHeap<Reverse<(u64, usize)>>, Malformed> {
        let mut heap = BinaryHeap::with_capacity(self.lists.len());
        for (index, list) in self.lists.iter_mut().enumerate() {
            list.ahead = list.runs.next()?;
            if let Some(offset) = list.next_run(&self.wanted)? {
                heap.push(Reverse((offset, index)));
            }
        }
        Ok(heap)
    }

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

/// The run list of one origin and lane.
pub(super) struct List {
    origin: Arc<Origin>,
    priority: FramePriority,
    runs: RunDecoder,
    /// The run behind the current run.
    ahead: Option<Run>,
    run: Option<Run>,
    /// Bytes of the current run, once they are read.
    bytes: Option<Bytes>,
    /// Position of the next frame in `bytes`.
    at: usize,
    offset: u64,
}

impl List {
    pub(super) fn new(entry: &Entry, runs: RunDecoder) -> Self {
        Self {
            origin: Arc::clone(&entry.origin),
            priority: entry.priority,
            runs,
            ahead: None,
            run: None,
            bytes: None,
            at: 0,
            offset: 0,
        }
    }

    /// Moves to the next wanted run. Returns the offset of its first frame.
    fn next_run(&mut self, wanted: &Wanted) -> Result<Option<u64>, Malformed> {
        self.bytes = None;
        loop {
            let Some(run) = self.ahead else {
                return Ok(None);
            };
            self.ahead = self.runs.next()?;
            if wanted.takes(&run, self.ahead.as_ref()) {
                self.run = Some(run);
                (self.at, self.offset) = (0, run.first_offset);
                return Ok(Some(run.first_offset));
            }
        }
    }

    /// Returns the current frame.
    fn take(&mut self, file: &dyn StorageFile) -> Result<frame::Frame, Malformed> {
        let run = self.run.ok_or(Malformed)?;
        let bytes = match &self.bytes {
            Some(bytes) => bytes,
            None => self.bytes.insert(read_run(file, &run)?),
        };
        let header = FrameHeader::read(bytes.get(self.at..).ok_or(Malformed)?).ok_or(Malformed)?;
        if header.origin != run.origin || header.priority != self.priority {
            return Err(Malformed);
        }
        let start = self.at;
        self.at += header.frame_len();
        self.offset += 1;
        let payload = bytes.slice(start + FRAME_HEADER_BYTES..self.at);
        Ok(header.frame(Arc::clone(&self.origin), payload))
    }

    /// Moves to the next frame of this list. Returns its offset.
    fn advance(&mut self, wanted: &Wanted) -> Result<Option<u64>, Malformed> {
        let (Some(run), Some(bytes)) = (&self.run, &self.bytes) else {
            return Err(Malformed);
        };
        while self.at < bytes.len() {
            let header = FrameHeader::read(&bytes[self.at..]).ok_or(Malformed)?;
            if header.origin == run.origin && header.priority == self.priority {
                return Ok(Some(self.offset));
            }
            self.at += header.frame_len();
            self.offset = self.offset.checked_add(1).ok_or(Malformed)?;
        }
        self.next_run(wanted)
    }
}

fn read_run(file: &dyn StorageFile, run: &Run) -> Result<Bytes, Malformed> {
    // The decoder has checked the length against the length of the segment.
    let mut bytes = vec![0; run.length as usize];
    let count = read_full_at(file, &mut bytes, run.position).map_err(|_| Malformed)?;
    if count < bytes.len() || crc32c::crc32c(&bytes) != run.crc {
        return Err(Malformed);
    }
    Ok(bytes.into())
}
