//! Builds an index from blocks, either as they are written or as they are read later.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::NoIndex;
use super::layout::{CHUNK_BYTES, Chunk, Entry, Extent, ExtentEncoder, HEADER_BYTES, Header, Times};
use crate::format::{BLOCK_HEADER_BYTES, EXTENT_BYTES_MAX, FRAMES_PREFIX_BYTES, FrameRange, RecordHeader};
use frame::{FramePriority, Origin};

/// Minimum length of a chunk in bytes, except the last one. A chunk ends with the first block that reaches it. Small in
/// tests, because their segments are small.
const CHUNK_SPAN_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };
/// Maximum gap between frames of one extent, in bytes. Across a small gap one read is cheaper than two.
const JOIN_BYTES_MAX: usize = 1 << 10;
/// Maximum number of entries (pairs of origin and lane) in one index. A segment with more gets no index.
const ENTRIES_MAX: usize = 1 << 16;
/// Maximum bytes of all extent lists of one index. They take up to twice as much memory while they grow. Above this
/// limit the longest lists are left out. This takes millions of frames of mixed origins in one segment, and a query
/// would then read about every third byte in any case.
pub(super) const LISTS_BYTES_MAX: usize = 16 << 20;

/// Memory of an entry in bytes, without its extent list: the entry, its slot in the table, the origin, and spare
/// capacity while the entries and the table grow.
const ENTRY_BYTES: usize = 512;

/// A finished index, ready to be written part by part.
pub(crate) struct Content {
    /// Header, chunk table and directory.
    tables: Vec<u8>,
    /// The extent lists, in the order of the directory.
    lists: Vec<Vec<u8>>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.parts().map(|part| part.len() as u64).sum()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.tables).chain(&self.lists).map(Vec::as_slice)
    }
}

/// Builds an index block by block. The result depends only on the frames, not on how the caller divides them into
/// ranges.
pub(crate) struct Builder {
    /// Offset of the segment's first frame.
    base: u64,
    /// The id of the segment.
    segment_id: u64,
    /// Offset behind the last frame so far.
    next_offset: u64,
    /// The chunks so far. The last one may still grow.
    chunks: Vec<Chunk>,
    /// The directory entries so far, in the order in which they came.
    lists: Vec<EntryBuilder>,
    /// Index into `lists`.
    by_origin: HashMap<(Arc<Origin>, FramePriority), usize>,
    /// Bytes of all extent lists so far.
    lists_bytes: usize,
    /// Whether an extent list was left out because of [`LISTS_BYTES_MAX`].
    has_left_out: bool,
    /// The extents that are not yet closed. Empty between two blocks: no extent reaches over the end of a block.
    slots: Slots,
}

/// The index of a sealed segment.
pub(crate) struct PendingIndex {
    /// What the index will hold. It is encoded only when it is written.
    builder: Builder,
    /// Length of the segment's file in bytes.
    covered: u64,
    /// Memory of this value in bytes.
    bytes: usize,
}

impl PendingIndex {
    /// First offset of the segment.
    pub(crate) fn base(&self) -> u64 {
        self.builder.base
    }

    /// Length of the segment file in bytes.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// Memory of this value in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn content(self) -> Content {
        self.builder.finish(self.covered)
    }
}

/// A directory entry that is being built.
struct EntryBuilder {
    /// The origin.
    origin: Arc<Origin>,
    /// The lane.
    priority: FramePriority,
    /// Number of frames.
    frames: u64,
    /// Their receive times.
    times: Times,
    /// Bytes of the segment in its extents, also if the list was left out.
    extents_len: u64,
    /// Position of the last block that has frames of this origin and lane.
    block: u64,
    /// `None` if the list was left out.
    extents: Option<ExtentEncoder>,
}

/// The extents of the current block, by origin number and lane.
#[derive(Default)]
struct Slots {
    /// The open extent of each origin and lane: the slot is `origin number * number of lanes + lane`.
    open: Vec<Option<OpenExtent>>,
    /// The slots that have had an extent in this block, so that [`Builder::close_extents`] need not look at all of
    /// them.
    touched: Vec<usize>,
}

/// An extent that may still grow. `start` and `end` are positions in the body of the block.
#[derive(Clone, Copy)]
struct OpenExtent {
    /// Index into [`Builder::lists`].
    list: usize,
    /// Where its first frame begins.
    start: usize,
    /// Where its last frame ends.
    end: usize,
    /// Offset of its first frame.
    first_offset: u64,
    /// Checksum of the extent's bytes, if known.
    crc: Option<NonZeroU32>,
}

impl OpenExtent {
    /// Extends the extent by frames of `body[at..end]`. Returns the position of the first frame that does not fit, or
    /// `end`. Returns `None` if the body is malformed.
    fn take(&mut self, body: &[u8], mut at: usize, end: usize, offset: &mut u64) -> Option<usize> {
        if at - self.end > JOIN_BYTES_MAX {
            return Some(at);
        }
        let limit = self.start + EXTENT_BYTES_MAX;
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

/// Bytes of the frame at `at`; `None` if no whole frame is there.
fn frame_len(body: &[u8], at: usize) -> Option<usize> {
    Some(RecordHeader::read(body.get(at..)?)?.frame_len())
}

/// The current block.
struct Block<'a> {
    /// Where the block begins in the file.
    position: u64,
    /// Its body.
    body: &'a [u8],
    /// Its origin table.
    origins: &'a [Arc<Origin>],
}

impl Builder {
    /// Creates a builder for the segment that begins at the offset `base`.
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

    /// Adds the next block of frames. `ranges` are the frame ranges of `body`. A `None` among them means that the block
    /// is malformed.
    ///
    /// # Errors
    /// [`NoIndex`]. The segment then gets no index, and the builder is of no further use.
    pub(crate) fn block(
        &mut self,
        position: u64,
        body: &[u8],
        origins: &[Arc<Origin>],
        ranges: impl Iterator<Item = Option<FrameRange>>,
    ) -> Result<(), NoIndex> {
        self.enter_chunk(position);
        self.slots.open.clear();
        self.slots.open.resize(origins.len() * FramePriority::ALL.len(), None);
        let block = Block { position, body, origins };
        let mut at = FRAMES_PREFIX_BYTES;
        for range in ranges {
            let range = range.ok_or(NoIndex::Damaged)?;
            self.range(&block, at, &range)?;
            self.next_offset += u64::from(range.frames);
            at += range.bytes as usize;
        }
        self.close_extents(&block);
        Ok(())
    }

    /// Begins a new chunk at the block at `position` if the last one is full.
    fn enter_chunk(&mut self, position: u64) {
        let full = |chunk: &Chunk| position - chunk.position >= CHUNK_SPAN_BYTES;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Chunk { position, first_offset: self.next_offset, times: Times::NONE });
        }
    }

    /// Adds the frames of `range`, which begin at `start` in the body, to the open extent of their origin and lane.
    /// Where they do not fit, closes it and opens the next one.
    fn range(&mut self, block: &Block<'_>, start: usize, range: &FrameRange) -> Result<(), NoIndex> {
        let slot = usize::from(range.origin) * FramePriority::ALL.len() + range.priority.lane();
        let mut open = self.slots.open[slot].take();
        let list = match &open {
            Some(extent) => extent.list,
            None => {
                self.slots.touched.push(slot);
                self.list_in_block(block, range)?
            }
        };
        let end = start + range.bytes as usize;
        let (mut at, mut offset) = (start, self.next_offset);
        while at < end {
            if let Some(extent) = &mut open {
                at = extent.take(block.body, at, end, &mut offset).ok_or(NoIndex::Damaged)?;
                if at == end {
                    break;
                }
                self.close(block, range.origin, *extent);
            }
            if at == start && end - at <= EXTENT_BYTES_MAX {
                open = Some(OpenExtent { list, start: at, end, first_offset: offset, crc: range.crc });
                break;
            }
            // The first frame of an extent may have any length.
            let extent_end = at + frame_len(block.body, at).ok_or(NoIndex::Damaged)?;
            open = Some(OpenExtent { list, start: at, end: extent_end, first_offset: offset, crc: None });
            (at, offset) = (extent_end, offset + 1);
        }
        self.slots.open[slot] = open;
        let times = Times { min_ns: range.received_min_ns, max_ns: range.received_max_ns };
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.times.extend(times);
        }
        let list = &mut self.lists[list];
        list.frames += u64::from(range.frames);
        list.times.extend(times);
        Ok(())
    }

    /// The list for the first range of an origin and lane in the block.
    fn list_in_block(&mut self, block: &Block<'_>, range: &FrameRange) -> Result<usize, NoIndex> {
        let index = self.list_of(&block.origins[usize::from(range.origin)], range.priority)?;
        let before = std::mem::replace(&mut self.lists[index].block, block.position);
        // An origin that is twice in a block's table would mix up its extents. No writer of this version writes such a
        // table.
        if before == block.position { Err(NoIndex::Damaged) } else { Ok(index) }
    }

    /// The list of an origin and lane, a new one if it is the first time in the segment.
    fn list_of(&mut self, origin: &Arc<Origin>, priority: FramePriority) -> Result<usize, NoIndex> {
        let key = (Arc::clone(origin), priority);
        if let Some(list) = self.by_origin.get(&key) {
            return Ok(*list);
        }
        if self.lists.len() == ENTRIES_MAX {
            return Err(NoIndex::TooManyOrigins);
        }
        self.lists.push(EntryBuilder {
            origin: Arc::clone(origin),
            priority,
            frames: 0,
            times: Times::NONE,
            extents_len: 0,
            block: 0,
            extents: Some(ExtentEncoder::new(self.base)),
        });
        self.by_origin.insert(key, self.lists.len() - 1);
        Ok(self.lists.len() - 1)
    }

    fn close_extents(&mut self, block: &Block<'_>) {
        let mut touched = std::mem::take(&mut self.slots.touched);
        for slot in touched.drain(..) {
            if let Some(extent) = self.slots.open[slot].take() {
                self.close(block, (slot / FramePriority::ALL.len()) as u16, extent);
            }
        }
        self.slots.touched = touched;
    }

    /// Appends `extent` to its list.
    fn close(&mut self, block: &Block<'_>, origin: u16, extent: OpenExtent) {
        let list = &mut self.lists[extent.list];
        let bytes = &block.body[extent.start..extent.end];
        list.extents_len += bytes.len() as u64;
        let Some(extents) = &mut list.extents else { return };
        let before = extents.bytes.len();
        extents.push(&Extent {
            position: block.position + BLOCK_HEADER_BYTES + extent.start as u64,
            length: bytes.len() as u32,
            first_offset: extent.first_offset,
            origin,
            crc: extent.crc.map_or_else(|| crc32c::crc32c(bytes), NonZeroU32::get),
        });
        self.lists_bytes += extents.bytes.len() - before;
        if self.lists_bytes > LISTS_BYTES_MAX {
            self.leave_out_longest();
        }
    }

    /// Whether the index is too large to be built while the segment is written: extent lists were left out, which costs
    /// time, or extent lists and entries together take more than [`LISTS_BYTES_MAX`].
    pub(crate) fn is_too_large(&self) -> bool {
        self.has_left_out || self.lists_bytes + self.lists.len() * ENTRY_BYTES > LISTS_BYTES_MAX
    }

    /// Finishes the builder. The segment file is `covered` bytes long.
    pub(crate) fn ready(self, covered: u64) -> PendingIndex {
        let lists = self.lists.iter().filter_map(|list| list.extents.as_ref());
        let lists: usize = lists.map(|extents| extents.bytes.capacity()).sum();
        let bytes = size_of::<PendingIndex>()
            + lists
            + self.lists.len() * ENTRY_BYTES
            + self.chunks.len() * CHUNK_BYTES;
        PendingIndex { builder: self, covered, bytes }
    }

    /// Drops the longest extent list. Readers scan the segment for that origin and lane.
    fn leave_out_longest(&mut self) {
        self.has_left_out = true;
        let length =
            |list: &&mut EntryBuilder| list.extents.as_ref().map_or(0, |extents| extents.bytes.len());
        if let Some(extents) = self.lists.iter_mut().max_by_key(length).and_then(|list| list.extents.take()) {
            self.lists_bytes -= extents.bytes.len();
        }
    }

    /// Encodes the index. The segment file is `covered` bytes long.
    pub(crate) fn finish(self, covered: u64) -> Content {
        let mut times = Times::NONE;
        let mut tables = Vec::new();
        for chunk in &self.chunks {
            times.extend(chunk.times);
            chunk.push(&mut tables);
        }
        let chunk_count = self.chunks.len() as u32;
        let frames: u64 = self.lists.iter().map(|list| list.frames).sum();
        assert_eq!(
            self.base + frames,
            self.next_offset,
            "the entries do not name every frame of the segment"
        );
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

/// Returns the entries in directory order with their lists. `list_at` counts from the first list.
fn entries(lists: Vec<EntryBuilder>) -> (Vec<Entry>, Vec<Vec<u8>>) {
    let mut pairs: Vec<(Entry, Vec<u8>)> = lists.into_iter().map(EntryBuilder::finish).collect();
    pairs.sort_by(|(one, _), (other, _)| one.order(other));
    let mut at = 0;
    for (entry, list) in &mut pairs {
        entry.list_at = at;
        at += list.len() as u64;
    }
    pairs.into_iter().unzip()
}

impl EntryBuilder {
    fn finish(self) -> (Entry, Vec<u8>) {
        let list = self.extents.map_or_else(Vec::new, |extents| extents.bytes);
        let entry = Entry {
            origin: self.origin,
            priority: self.priority,
            frames: self.frames,
            times: self.times,
            extents_len: self.extents_len,
            list_at: 0,
            list_len: list.len() as u64,
            list_crc: crc32c::crc32c(&list),
        };
        (entry, list)
    }
}
