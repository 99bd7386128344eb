//! Opens an index for a reader, checks each part, and plans how to read the segment for a filter.
//!
//! `index.rs` says what a chunk, an entry, an extent and an extent list are. To walk means to read whole blocks in
//! their order.

use std::io;
use std::path::Path;

use super::layout::{CHUNK_BYTES, Chunk, Entry, ExtentDecoder, HEADER_BYTES, Header, Times};
use super::merge::{ChunkRange, ExtentCursor, Merge};
use crate::Filter;
use crate::format::names::index_name;
use crate::format::{Cursor, SegmentHeader, is_intact};
use crate::storage::{Access, Storage, StorageFile, read_full_at};

/// Maximum bytes of chunk table and directory that a reader accepts. The largest index stays below it.
pub(super) const TABLES_BYTES_MAX: u64 = 16 << 20;
/// Maximum bytes of extent lists that a reader holds. Above this limit the reader walks the segment. Enough for some
/// hundred thousand extents.
pub(super) const LISTS_BYTES_MAX: u64 = 4 << 20;
/// A reader reads single extents only if they are less than one part in `EXTENTS_SHARE` of the bytes of a walk. A walk
/// reads in larger pieces, so each byte costs less.
const EXTENTS_SHARE: u64 = 2;

/// How to read a segment.
pub(crate) enum Plan {
    /// Walk these ranges: read every block in them. If there are none, the segment holds no requested frame.
    Walk(Vec<ChunkRange>),
    /// Read only these extents.
    Extents(Merge),
}

/// An open index whose header matches its segment.
pub(crate) struct Index {
    /// The index file. Its tables and lists are read when they are needed.
    file: Box<dyn StorageFile>,
    /// Its header.
    pub(crate) header: Header,
}

impl Index {
    /// Opens the index of `segment`. `segment_len` is the length of the segment in bytes. Returns `None` if no index
    /// matches.
    pub(crate) fn open(
        storage: &dyn Storage,
        dir: &Path,
        segment: &SegmentHeader,
        segment_len: u64,
    ) -> Option<Self> {
        let file = storage.open(&dir.join(index_name(segment.base_offset)), Access::Read).ok()?;
        let mut bytes = [0; HEADER_BYTES];
        if read_full_at(&*file, &mut bytes, 0).ok()? < HEADER_BYTES {
            return None;
        }
        let header = Header::decode(&bytes)?;
        let len = (HEADER_BYTES as u64).checked_add(header.tables_len())?.checked_add(header.lists_len)?;
        let matches = header.segment_id == segment.segment_id
            && header.base_offset == segment.base_offset
            && header.base_offset <= header.next_offset
            && header.covered == segment_len
            && file.size().ok()? == len;
        matches.then_some(Self { file, header })
    }

    /// Length in bytes of the segment that the index describes.
    pub(crate) fn covered(&self) -> u64 {
        self.header.covered
    }

    /// Plans how to find the frames that `filter` takes from the offset `from` on. Returns `None` if the index is not
    /// valid.
    ///
    /// The upper offset of the filter may change later. The plan uses it only to estimate the cost.
    pub(crate) fn plan(&self, filter: &Filter, from: u64) -> Option<Plan> {
        if !overlaps(filter, &self.header.times) {
            return Some(Plan::Walk(Vec::new()));
        }
        let (chunks, entries) = self.tables()?;
        let ranges = self.ranges(&chunks, filter, from);
        if filter.selection.is_all() && filter.epoch.is_none() {
            return Some(Plan::Walk(ranges));
        }
        let entries: Vec<Entry> = entries.into_iter().filter(|entry| is_selected(filter, entry)).collect();
        if entries.is_empty() {
            return Some(Plan::Walk(Vec::new()));
        }
        if !self.is_worthwhile(&entries, &ranges, filter) {
            return Some(Plan::Walk(ranges));
        }
        let lists: Option<Vec<ExtentCursor>> = entries.iter().map(|entry| self.list(entry)).collect();
        Some(Plan::Extents(Merge::new(lists?, ranges, from)))
    }

    /// Reads the chunk table and the directory.
    fn tables(&self) -> Option<(Vec<Chunk>, Vec<Entry>)> {
        if self.header.tables_len() > TABLES_BYTES_MAX {
            return None;
        }
        let bytes = self.read(HEADER_BYTES as u64, self.header.tables_len())?;
        if !is_intact(&bytes, self.header.tables_crc) {
            return None;
        }
        let mut cursor = Cursor(&bytes);
        let mut table = Cursor(cursor.take(self.header.chunk_count as usize * CHUNK_BYTES)?);
        let mut chunks: Vec<Chunk> = Vec::new();
        while let Some(chunk) = Chunk::read(&mut table) {
            let follows =
                |last: &Chunk| last.position < chunk.position && last.first_offset < chunk.first_offset;
            let sound = chunks.last().is_none_or(follows)
                && chunk.position < self.header.covered
                && (self.header.base_offset..self.header.next_offset).contains(&chunk.first_offset);
            if !sound {
                return None;
            }
            chunks.push(chunk);
        }
        let mut entries = Vec::new();
        while !cursor.0.is_empty() {
            entries.push(Entry::read(&mut cursor)?);
        }
        (entries.len() == self.header.entry_count as usize).then_some((chunks, entries))
    }

    /// Returns the chunks that may hold requested frames. Adjacent chunks are joined.
    fn ranges(&self, chunks: &[Chunk], filter: &Filter, from: u64) -> Vec<ChunkRange> {
        let ends = chunks.iter().skip(1).map(|chunk| (chunk.position, chunk.first_offset));
        let ends = ends.chain([(self.header.covered, self.header.next_offset)]);
        let mut ranges: Vec<ChunkRange> = Vec::new();
        for (chunk, (end, next_offset)) in chunks.iter().zip(ends) {
            if next_offset <= from || !overlaps(filter, &chunk.times) {
                continue;
            }
            match ranges.last_mut().filter(|last| last.positions.end == chunk.position) {
                Some(last) => {
                    last.positions.end = end;
                    last.offsets.end = next_offset;
                }
                None => ranges.push(ChunkRange {
                    positions: chunk.position..end,
                    offsets: chunk.first_offset..next_offset,
                }),
            }
        }
        ranges
    }

    /// Whether reading the extents of `entries` costs much less than a walk over `ranges`.
    fn is_worthwhile(&self, entries: &[Entry], ranges: &[ChunkRange], filter: &Filter) -> bool {
        let to = filter.to_offset.unwrap_or(u64::MAX);
        let wanted = ranges.iter().filter(|range| range.offsets.start < to);
        let walk: u128 = wanted.map(|range| u128::from(range.positions.end - range.positions.start)).sum();
        let lists: u128 = entries.iter().map(|entry| u128::from(entry.list_len)).sum();
        let extents: u128 = entries.iter().map(|entry| u128::from(entry.extents_len)).sum();
        // The estimate assumes that the extents are spread evenly over the segment.
        let extents = extents * walk / u128::from(self.header.covered.max(1));
        // An entry whose extent list would be too long has no list, and its length is 0.
        entries.iter().all(|entry| entry.list_len > 0)
            && lists <= u128::from(LISTS_BYTES_MAX)
            && (lists + extents) * u128::from(EXTENTS_SHARE) < walk
    }

    fn list(&self, entry: &Entry) -> Option<ExtentCursor> {
        let bytes = self.read(entry.list_at, entry.list_len)?;
        if !is_intact(&bytes, entry.list_crc) {
            return None;
        }
        let extents = ExtentDecoder::new(bytes, self.header.base_offset, self.header.covered);
        Some(ExtentCursor::new(entry, extents))
    }

    /// Reads `len` bytes of the index at `at`. Returns `None` if the file is too short. The caller has limited `len`.
    fn read(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let count = read_full_at(&*self.file, &mut bytes, at).ok()?;
        (count == bytes.len()).then_some(bytes)
    }
}

fn overlaps(filter: &Filter, times: &Times) -> bool {
    filter.from_received_ns.is_none_or(|from| times.max_ns >= from)
        && filter.to_received_ns.is_none_or(|to| times.min_ns < to)
}

fn is_selected(filter: &Filter, entry: &Entry) -> bool {
    let stream = &entry.origin.stream;
    filter.selection.takes_stream(stream.source_id, stream.source_kind, entry.priority)
        && filter.epoch.is_none_or(|epoch| entry.origin.epoch == epoch)
        && overlaps(filter, &entry.times)
}

/// Whether `file` begins with the bytes of `parts`, one part behind the other. `index::check` compares an index with a
/// newly built one in this way.
pub(super) fn has_content<'a>(
    file: &dyn StorageFile,
    parts: impl Iterator<Item = &'a [u8]>,
) -> io::Result<bool> {
    let mut at = 0;
    for part in parts {
        let mut bytes = vec![0; part.len()];
        if read_full_at(file, &mut bytes, at)? < bytes.len() || bytes != part {
            return Ok(false);
        }
        at += part.len() as u64;
    }
    Ok(true)
}
