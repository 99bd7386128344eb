//! Frames of several run lists in the order of the log.
//!
//! In memory are the lists as they were read and the runs that reach over the frame at hand. Those lie in one block,
//! and since a run goes on only while its own frames lie close together, they are a few MiB at the worst.

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

/// A range of chunks that may hold what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) positions: Range<u64>,
    pub(crate) offsets: Range<u64>,
}

/// Run lists on their way through a segment.
pub(crate) struct Merge {
    lists: Vec<List>,
    /// Offset of the next frame of each list; `None` before the first.
    heap: Option<BinaryHeap<Reverse<(u64, usize)>>>,
    wanted: Wanted,
}

/// Where runs are of interest.
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
    /// Of `lists`, the runs that lie in `spans` and hold something from the offset `from` on.
    pub(super) fn new(lists: Vec<List>, spans: Vec<Span>, from: u64) -> Self {
        Self { lists, heap: None, wanted: Wanted { spans, from } }
    }

    /// The next frame of the segment `file` below the offset `below`; `None` when there is no further one.
    ///
    /// # Errors
    /// [`Malformed`] when lists and segment do not go together, or the segment cannot be read there. All frames below
    /// have been returned then.
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
            // The order of the log, or the same frame would be found twice.
            Some(next) if next <= offset => return Err(Malformed),
            Some(next) => *head = Reverse((next, index)),
            None => _ = std::collections::binary_heap::PeekMut::pop(head),
        }
        Ok(Some(StoredFrame { offset, frame }))
    }
}

/// One origin and lane.
pub(super) struct List {
    origin: Arc<Origin>,
    priority: FramePriority,
    runs: RunDecoder,
    /// The run behind the one at hand.
    ahead: Option<Run>,
    run: Option<Run>,
    /// The bytes of the run at hand, once they are read.
    bytes: Option<Bytes>,
    /// The next frame in them.
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

    /// Goes to the next run that is wanted and returns the offset of its first frame.
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

    /// The frame at hand.
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

    /// Goes to the next frame of this list and returns its offset.
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
    // The length was held against that of the segment.
    let mut bytes = vec![0; run.length as usize];
    let count = read_full_at(file, &mut bytes, run.position).map_err(|_| Malformed)?;
    if count < bytes.len() || crc32c::crc32c(&bytes) != run.crc {
        return Err(Malformed);
    }
    Ok(bytes.into())
}
