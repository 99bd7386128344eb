//! An index in the making: of blocks as they are written, or as they are read again.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::layout::{CHUNK_BYTES, Chunk, Entry, HEADER_BYTES, Header, Run, RunEncoder, Times};
use crate::format::{BLOCK_HEADER_BYTES, FRAMES_PREFIX_BYTES, FrameHeader, FrameRange, RUN_BYTES_MAX};
use frame::{FramePriority, Origin};

/// A chunk ends with the first block that makes it this long. Tests have small segments.
const CHUNK_SPAN_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };
/// Frames that lie up to this far apart share a run: one read is cheaper than two.
const JOIN_BYTES_MAX: usize = 1 << 10;
/// Origins and lanes in one index at most. A segment with more has no index.
const ENTRIES_MAX: usize = 1 << 16;
/// Bytes of the run lists of one index at most, as much again while they grow. The longest lists are left out when there
/// are more: it takes millions of frames of mixed origins in one segment, about every third byte of which would be read
/// anyway.
pub(super) const LISTS_BYTES_MAX: usize = 16 << 20;

/// What an entry takes in memory besides its run list: itself, its place in the table, as much again while both grow, and
/// its origin.
const ENTRY_BYTES: usize = 512;

/// Why a segment gets no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Damaged,
    TooManyOrigins,
}

/// An index, to be written part by part.
pub(crate) struct Content {
    tables: Vec<u8>,
    lists: Vec<Vec<u8>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.parts().map(|part| part.len() as u64).sum()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.tables).chain(&self.lists).map(Vec::as_slice)
    }
}

/// An index in the making, block by block. What it becomes follows from the frames alone, however they are told in
/// ranges.
pub(crate) struct Builder {
    base: u64,
    segment_id: u64,
    next_offset: u64,
    chunks: Vec<Chunk>,
    lists: Vec<List>,
    by_origin: HashMap<(Arc<Origin>, FramePriority), usize>,
    lists_bytes: usize,
    has_left_out: bool,
    slots: Slots,
}

/// The index of a segment that is sealed.
pub(crate) struct Ready {
    builder: Builder,
    covered: u64,
    bytes: usize,
}

impl Ready {
    /// First offset of the segment.
    pub(crate) fn base(&self) -> u64 {
        self.builder.base
    }

    /// Length of its file.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// Bytes of memory that this takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn content(self) -> Content {
        self.builder.finish(self.covered)
    }
}

/// An entry of the directory in the making.
struct List {
    origin: Arc<Origin>,
    priority: FramePriority,
    frames: u64,
    times: Times,
    runs_len: u64,
    /// Position of the last block with frames of it.
    block: u64,
    /// `None` when it was left out.
    runs: Option<RunEncoder>,
}

/// The runs of the block at hand, by number of origin and lane.
#[derive(Default)]
struct Slots {
    open: Vec<Option<OpenRun>>,
    touched: Vec<usize>,
}

#[derive(Clone, Copy)]
struct OpenRun {
    list: usize,
    start: usize,
    end: usize,
    first_offset: u64,
    /// Of its bytes, if that is known.
    crc: Option<NonZeroU32>,
}

impl OpenRun {
    /// Takes as many of the frames in `body[at..end]` as it may, and returns where the next one lies.
    fn take(&mut self, body: &[u8], mut at: usize, end: usize, offset: &mut u64) -> Option<usize> {
        if at - self.end > JOIN_BYTES_MAX {
            return Some(at);
        }
        let limit = self.start + RUN_BYTES_MAX;
        if end <= limit {
            (self.end, self.crc) = (end, None);
            return Some(end);
        }
        loop {
            let next = at + frame_len(body, at)?;
            if next > limit {
                return Some(at);
            }
            (self.end, self.crc, at) = (next, None, next);
            *offset += 1;
        }
    }
}

fn frame_len(body: &[u8], at: usize) -> Option<usize> {
    Some(FrameHeader::read(body.get(at..)?)?.frame_len())
}

/// The block at hand.
struct Block<'a> {
    position: u64,
    body: &'a [u8],
    origins: &'a [Arc<Origin>],
}

impl Builder {
    /// Of the segment that begins at the offset `base`.
    pub(crate) fn new(base: u64, segment_id: u64) -> Self {
        Self {
            base,
            segment_id,
            next_offset: base,
            chunks: Vec::new(),
            lists: Vec::new(),
            by_origin: HashMap::new(),
            lists_bytes: 0,
            has_left_out: false,
            slots: Slots::default(),
        }
    }

    /// Offset behind the last frame.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Takes the next block of frames. `ranges` are those of `body`; `None` among them says that it is malformed.
    ///
    /// # Errors
    /// [`Unfit`]; there is no use in going on then.
    pub(crate) fn block(
        &mut self,
        position: u64,
        body: &[u8],
        origins: &[Arc<Origin>],
        ranges: impl Iterator<Item = Option<FrameRange>>,
    ) -> Result<(), Unfit> {
        self.enter_chunk(position);
        self.slots.open.clear();
        self.slots.open.resize(origins.len() * FramePriority::ALL.len(), None);
        let block = Block { position, body, origins };
        let mut at = FRAMES_PREFIX_BYTES;
        for range in ranges {
            let range = range.ok_or(Unfit::Damaged)?;
            self.range(&block, at, &range)?;
            self.next_offset += u64::from(range.frames);
            at += range.bytes as usize;
        }
        self.close_runs(&block);
        Ok(())
    }

    fn enter_chunk(&mut self, position: u64) {
        let full = |chunk: &Chunk| position - chunk.position >= CHUNK_SPAN_BYTES;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Chunk { position, first_offset: self.next_offset, times: Times::NONE });
        }
    }

    fn range(&mut self, block: &Block<'_>, start: usize, range: &FrameRange) -> Result<(), Unfit> {
        let slot = usize::from(range.origin) * FramePriority::ALL.len() + range.priority.lane();
        let mut open = self.slots.open[slot].take();
        let list = match &open {
            Some(run) => run.list,
            None => {
                self.slots.touched.push(slot);
                self.list_in_block(block, range)?
            }
        };
        let end = start + range.bytes as usize;
        let (mut at, mut offset) = (start, self.next_offset);
        while at < end {
            if let Some(run) = &mut open {
                at = run.take(block.body, at, end, &mut offset).ok_or(Unfit::Damaged)?;
                if at == end {
                    break;
                }
                self.close(block, range.origin, *run);
            }
            if at == start && end - at <= RUN_BYTES_MAX {
                open = Some(OpenRun { list, start: at, end, first_offset: offset, crc: range.crc });
                break;
            }
            // The first frame of a run may be of any length.
            let run_end = at + frame_len(block.body, at).ok_or(Unfit::Damaged)?;
            open = Some(OpenRun { list, start: at, end: run_end, first_offset: offset, crc: None });
            (at, offset) = (run_end, offset + 1);
        }
        self.slots.open[slot] = open;
        let times = Times { min_ns: range.received_min_ns, max_ns: range.received_max_ns };
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.times.take_all(times);
        }
        let list = &mut self.lists[list];
        list.frames += u64::from(range.frames);
        list.times.take_all(times);
        Ok(())
    }

    /// The list that `range` goes to, the first of its origin and lane in the block.
    fn list_in_block(&mut self, block: &Block<'_>, range: &FrameRange) -> Result<usize, Unfit> {
        let index = self.list_of(&block.origins[usize::from(range.origin)], range.priority)?;
        let before = std::mem::replace(&mut self.lists[index].block, block.position);
        // An origin twice in the table of one block would mix up its runs. No writer of this version does that.
        if before == block.position { Err(Unfit::Damaged) } else { Ok(index) }
    }

    fn list_of(&mut self, origin: &Arc<Origin>, priority: FramePriority) -> Result<usize, Unfit> {
        let key = (Arc::clone(origin), priority);
        if let Some(list) = self.by_origin.get(&key) {
            return Ok(*list);
        }
        if self.lists.len() == ENTRIES_MAX {
            return Err(Unfit::TooManyOrigins);
        }
        self.lists.push(List {
            origin: Arc::clone(origin),
            priority,
            frames: 0,
            times: Times::NONE,
            runs_len: 0,
            block: 0,
            runs: Some(RunEncoder::new(self.base)),
        });
        self.by_origin.insert(key, self.lists.len() - 1);
        Ok(self.lists.len() - 1)
    }

    fn close_runs(&mut self, block: &Block<'_>) {
        let mut touched = std::mem::take(&mut self.slots.touched);
        for slot in touched.drain(..) {
            if let Some(run) = self.slots.open[slot].take() {
                self.close(block, (slot / FramePriority::ALL.len()) as u16, run);
            }
        }
        self.slots.touched = touched;
    }

    fn close(&mut self, block: &Block<'_>, origin: u16, run: OpenRun) {
        let list = &mut self.lists[run.list];
        let bytes = &block.body[run.start..run.end];
        list.runs_len += bytes.len() as u64;
        let Some(runs) = &mut list.runs else { return };
        let before = runs.bytes.len();
        runs.push(&Run {
            position: block.position + BLOCK_HEADER_BYTES + run.start as u64,
            length: bytes.len() as u32,
            first_offset: run.first_offset,
            origin,
            crc: run.crc.map_or_else(|| crc32c::crc32c(bytes), NonZeroU32::get),
        });
        self.lists_bytes += runs.bytes.len() - before;
        if self.lists_bytes > LISTS_BYTES_MAX {
            self.leave_out_longest();
        }
    }

    /// Whether this is more than can be made beside other work: the run lists are bounded, but at a cost, and the
    /// entries are not.
    pub(crate) fn is_too_large(&self) -> bool {
        self.has_left_out || self.lists_bytes + self.lists.len() * ENTRY_BYTES > LISTS_BYTES_MAX
    }

    /// Of a segment whose file is `covered` bytes long; nothing more is added.
    pub(crate) fn ready(self, covered: u64) -> Ready {
        let lists = self.lists.iter().filter_map(|list| list.runs.as_ref());
        let lists: usize = lists.map(|runs| runs.bytes.capacity()).sum();
        let bytes =
            size_of::<Ready>() + lists + self.lists.len() * ENTRY_BYTES + self.chunks.len() * CHUNK_BYTES;
        Ready { builder: self, covered, bytes }
    }

    fn leave_out_longest(&mut self) {
        self.has_left_out = true;
        let length = |list: &&mut List| list.runs.as_ref().map_or(0, |runs| runs.bytes.len());
        if let Some(runs) = self.lists.iter_mut().max_by_key(length).and_then(|list| list.runs.take()) {
            self.lists_bytes -= runs.bytes.len();
        }
    }

    /// The index, of a segment whose file is `covered` bytes long.
    pub(crate) fn finish(self, covered: u64) -> Content {
        let mut times = Times::NONE;
        let mut tables = Vec::new();
        for chunk in &self.chunks {
            times.take_all(chunk.times);
            chunk.push(&mut tables);
        }
        let chunk_count = self.chunks.len() as u32;
        let (mut entries, lists) = entries(self.lists);
        let station_len = |entry: &Entry| entry.origin.stream.station.as_str().len();
        let directory_len: usize = entries.iter().map(|entry| Entry::BYTES + station_len(entry)).sum();
        let lists_at = (HEADER_BYTES + tables.len() + directory_len) as u64;
        for entry in &mut entries {
            entry.list_at += lists_at;
            entry.push(&mut tables);
        }
        let header = Header {
            chunk_count,
            segment_id: self.segment_id,
            base_offset: self.base,
            next_offset: self.next_offset,
            covered,
            lists_len: lists.iter().map(|list| list.len() as u64).sum(),
            times,
            entry_count: entries.len() as u32,
            directory_len: directory_len as u32,
            tables_crc: crc32c::crc32c(&tables),
        };
        tables.splice(0..0, header.encode());
        Content { tables, lists }
    }
}

/// The entries in the order of the directory and their lists, with `list_at` counted from the first list.
fn entries(lists: Vec<List>) -> (Vec<Entry>, Vec<Vec<u8>>) {
    let mut pairs: Vec<(Entry, Vec<u8>)> = lists.into_iter().map(List::finish).collect();
    pairs.sort_by(|(one, _), (other, _)| one.order(other));
    let mut at = 0;
    for (entry, list) in &mut pairs {
        entry.list_at = at;
        at += list.len() as u64;
    }
    pairs.into_iter().unzip()
}

impl List {
    fn finish(self) -> (Entry, Vec<u8>) {
        let list = self.runs.map_or_else(Vec::new, |runs| runs.bytes);
        let entry = Entry {
            origin: self.origin,
            priority: self.priority,
            frames: self.frames,
            times: self.times,
            runs_len: self.runs_len,
            list_at: 0,
            list_len: list.len() as u64,
            list_crc: crc32c::crc32c(&list),
        };
        (entry, list)
    }
}
