//! One walk over a sealed segment, and what comes of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::{Chunk, Entry, HEADER_BYTES, Header, Run, RunEncoder, Times};
use crate::archive::format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, FRAME_HEADER_BYTES, FRAMES_PREFIX_BYTES, FrameIter,
};
use crate::archive::scan::{Head, Scanner, Step};
use crate::archive::storage::StorageError;
use crate::frame::{Frame, FramePriority, Origin};

/// A chunk ends with the first block that makes it this long. Tests have small segments.
const CHUNK_SPAN_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };
/// Frames that lie up to this far apart share a run: one read is cheaper than two.
const JOIN_BYTES_MAX: usize = 1 << 10;
/// A run of several frames ends when it would become longer than this.
const RUN_BYTES_MAX: usize = 64 << 10;
/// Origins and lanes in one index at most. A segment with more has no index.
const ENTRIES_MAX: usize = 1 << 16;
/// Bytes of the run lists of one index at most, as much again while they grow. The longest lists are left out when there
/// are more: it takes millions of frames of mixed origins in one segment, about every third byte of which would be read
/// anyway.
pub(super) const LISTS_BYTES_MAX: usize = 16 << 20;

/// What a segment is worth to an index.
pub(super) enum Walked {
    Content(Content),
    Damaged,
    TooManyOrigins,
    Stopped,
}

/// An index, to be written part by part.
pub(super) struct Content {
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

/// Walks the segment from `base` up to the base of the next one. A reader would report what makes it `Damaged` here.
pub(super) fn walk(
    scanner: &mut Scanner,
    base: u64,
    next: u64,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Walked, StorageError> {
    let Head::Sound(segment) = scanner.head() else {
        return Ok(Walked::Damaged);
    };
    let covered = scanner.size()?;
    let mut walk = Builder::new(base, next);
    loop {
        if is_stopped() {
            return Ok(Walked::Stopped);
        }
        let outcome = match scanner.next()? {
            Step::Block(header, body) => walk.block(&header, &body),
            Step::Damage(_) => Err(Walked::Damaged),
            Step::End(_) => break,
        };
        if let Err(ended) = outcome {
            return Ok(ended);
        }
    }
    if segment.base_offset != base || walk.next_offset != next {
        return Ok(Walked::Damaged);
    }
    Ok(Walked::Content(walk.finish(segment.segment_id, covered)))
}

struct Builder {
    base: u64,
    /// Base of the next segment; frames from there on are superseded.
    end: u64,
    next_offset: u64,
    chunks: Vec<Chunk>,
    lists: Vec<List>,
    by_origin: HashMap<(Arc<Origin>, FramePriority), usize>,
    lists_bytes: usize,
    slots: Slots,
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
}

impl Builder {
    fn new(base: u64, end: u64) -> Self {
        Self {
            base,
            end,
            next_offset: base,
            chunks: Vec::new(),
            lists: Vec::new(),
            by_origin: HashMap::new(),
            lists_bytes: 0,
            slots: Slots::default(),
        }
    }

    fn block(&mut self, header: &BlockHeader, body: &Bytes) -> Result<(), Walked> {
        if header.kind == BlockKind::Frames && header.first_offset >= self.end {
            return Ok(());
        }
        if header.first_offset != self.next_offset || header.next_offset() > self.end {
            return Err(Walked::Damaged);
        }
        if header.kind != BlockKind::Frames {
            return Ok(());
        }
        let frames = FrameIter::new(header, body.clone()).ok_or(Walked::Damaged)?;
        self.enter_chunk(header);
        self.slots.open.clear();
        self.slots.open.resize(usize::from(header.origin_count) * FramePriority::ALL.len(), None);
        let mut at = FRAMES_PREFIX_BYTES;
        for frame in frames {
            let frame = frame.ok_or(Walked::Damaged)?;
            self.frame(header, body, at, &frame)?;
            self.next_offset += 1;
            at += FRAME_HEADER_BYTES + frame.payload.len();
        }
        self.close_runs(header, body);
        Ok(())
    }

    fn enter_chunk(&mut self, header: &BlockHeader) {
        let full = |chunk: &Chunk| header.position - chunk.position >= CHUNK_SPAN_BYTES;
        if self.chunks.last().is_none_or(full) {
            let (position, first_offset) = (header.position, header.first_offset);
            self.chunks.push(Chunk { position, first_offset, times: Times::NONE });
        }
    }

    fn frame(&mut self, header: &BlockHeader, body: &[u8], at: usize, frame: &Frame) -> Result<(), Walked> {
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.times.take(frame.received_ns);
        }
        let origin = u16::from_le_bytes([body[at + 4], body[at + 5]]);
        let slot = usize::from(origin) * FramePriority::ALL.len() + frame.priority.lane();
        let end = at + FRAME_HEADER_BYTES + frame.payload.len();
        let list = match &mut self.slots.open[slot] {
            Some(run) if at - run.end <= JOIN_BYTES_MAX && end - run.start <= RUN_BYTES_MAX => {
                run.end = end;
                run.list
            }
            Some(run) => {
                let (done, list) = (*run, run.list);
                *run = OpenRun { list, start: at, end, first_offset: self.next_offset };
                self.close(header, body, origin, done);
                list
            }
            None => {
                let list = self.list_in_block(header, frame)?;
                let run = OpenRun { list, start: at, end, first_offset: self.next_offset };
                self.slots.open[slot] = Some(run);
                self.slots.touched.push(slot);
                list
            }
        };
        let list = &mut self.lists[list];
        list.frames += 1;
        list.times.take(frame.received_ns);
        Ok(())
    }

    /// The list that `frame` goes to, the first of its origin and lane in the block.
    fn list_in_block(&mut self, header: &BlockHeader, frame: &Frame) -> Result<usize, Walked> {
        let index = self.list_of(frame)?;
        let before = std::mem::replace(&mut self.lists[index].block, header.position);
        // An origin twice in the table of one block would mix up its runs. No writer of this version does that.
        if before == header.position { Err(Walked::Damaged) } else { Ok(index) }
    }

    fn list_of(&mut self, frame: &Frame) -> Result<usize, Walked> {
        let key = (Arc::clone(&frame.origin), frame.priority);
        if let Some(list) = self.by_origin.get(&key) {
            return Ok(*list);
        }
        if self.lists.len() == ENTRIES_MAX {
            return Err(Walked::TooManyOrigins);
        }
        self.lists.push(List {
            origin: Arc::clone(&frame.origin),
            priority: frame.priority,
            frames: 0,
            times: Times::NONE,
            runs_len: 0,
            block: 0,
            runs: Some(RunEncoder::new(self.base)),
        });
        self.by_origin.insert(key, self.lists.len() - 1);
        Ok(self.lists.len() - 1)
    }

    fn close_runs(&mut self, header: &BlockHeader, body: &[u8]) {
        for slot in std::mem::take(&mut self.slots.touched) {
            if let Some(run) = self.slots.open[slot].take() {
                self.close(header, body, (slot / FramePriority::ALL.len()) as u16, run);
            }
        }
    }

    fn close(&mut self, header: &BlockHeader, body: &[u8], origin: u16, run: OpenRun) {
        let list = &mut self.lists[run.list];
        let bytes = &body[run.start..run.end];
        list.runs_len += bytes.len() as u64;
        let Some(runs) = &mut list.runs else { return };
        let before = runs.bytes.len();
        runs.push(&Run {
            position: header.position + BLOCK_HEADER_BYTES + run.start as u64,
            length: bytes.len() as u32,
            first_offset: run.first_offset,
            origin,
            crc: crc32c::crc32c(bytes),
        });
        self.lists_bytes += runs.bytes.len() - before;
        if self.lists_bytes > LISTS_BYTES_MAX {
            self.leave_out_longest();
        }
    }

    fn leave_out_longest(&mut self) {
        let length = |list: &&mut List| list.runs.as_ref().map_or(0, |runs| runs.bytes.len());
        if let Some(runs) = self.lists.iter_mut().max_by_key(length).and_then(|list| list.runs.take()) {
            self.lists_bytes -= runs.bytes.len();
        }
    }

    fn finish(self, segment_id: u64, covered: u64) -> Content {
        let mut times = Times::NONE;
        let mut tables = Vec::new();
        for chunk in &self.chunks {
            times.take(chunk.times.min_ns);
            times.take(chunk.times.max_ns);
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
            segment_id,
            base_offset: self.base,
            next_offset: self.end,
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
