//! Encodes and decodes the parts of an index. Decoding does not trust its input.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::format::{BODY_BYTES_MAX, Cursor, FRAME_HEADER_BYTES, OriginHeader, is_intact, push_origin};
use frame::{FramePriority, Origin};

const MAGIC: &[u8; 8] = b"TMAINDEX";
/// Version this build writes, and the only one it reads.
const VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 96;
pub(super) const CHUNK_BYTES: usize = 32;

/// Earliest and latest receive time of a set of frames, in unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// The earliest.
    pub(crate) min_ns: i64,
    /// The latest. In an empty set it is below the earliest.
    pub(crate) max_ns: i64,
}

impl Times {
    /// The times of an empty set.
    pub(super) const NONE: Self = Self { min_ns: i64::MAX, max_ns: i64::MIN };

    /// Extends the range by the times of other frames.
    pub(super) fn extend(&mut self, others: Self) {
        self.min_ns = self.min_ns.min(others.min_ns);
        self.max_ns = self.max_ns.max(others.max_ns);
    }

    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self { min_ns: cursor.i64()?, max_ns: cursor.i64()? })
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.min_ns.to_le_bytes());
        bytes[8..].copy_from_slice(&self.max_ns.to_le_bytes());
        bytes
    }
}

/// The header of an index. `index.rs` has the table of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Chunks in the chunk table.
    pub(super) chunk_count: u32,
    /// The id of the segment. An index with another id belongs to an earlier file of the same name.
    pub(super) segment_id: u64,
    /// Offset of the segment's first frame.
    pub(super) base_offset: u64,
    /// Offset behind its last frame: the base of the next segment.
    pub(crate) next_offset: u64,
    /// Length of the segment's file in bytes.
    pub(super) covered: u64,
    /// Bytes of all extent lists.
    pub(super) lists_len: u64,
    /// Receive times of the segment's frames.
    pub(crate) times: Times,
    /// Entries in the directory.
    pub(super) entry_count: u32,
    /// Bytes of the directory.
    pub(super) directory_len: u32,
    /// CRC-32C of chunk table and directory.
    pub(super) tables_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.chunk_count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.next_offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.covered.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.lists_len.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.times.bytes());
        bytes[72..76].copy_from_slice(&self.entry_count.to_le_bytes());
        bytes[76..80].copy_from_slice(&self.directory_len.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.tables_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes a header. Returns `None` unless it is a sound header of this version.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk()?;
        if !is_intact(content, u32::from_le_bytes(*crc)) {
            return None;
        }
        let mut cursor = Cursor(content.strip_prefix(MAGIC)?);
        if cursor.u16()? != VERSION {
            return None;
        }
        cursor.take(2)?;
        let chunk_count = cursor.u32()?;
        let segment_id = cursor.u64()?;
        let base_offset = cursor.u64()?;
        let next_offset = cursor.u64()?;
        let covered = cursor.u64()?;
        let lists_len = cursor.u64()?;
        let times = Times::read(&mut cursor)?;
        Some(Self {
            chunk_count,
            segment_id,
            base_offset,
            next_offset,
            covered,
            lists_len,
            times,
            entry_count: cursor.u32()?,
            directory_len: cursor.u32()?,
            tables_crc: cursor.u32()?,
        })
    }

    /// Bytes of chunk table and directory.
    pub(super) fn tables_len(&self) -> u64 {
        u64::from(self.chunk_count) * CHUNK_BYTES as u64 + u64::from(self.directory_len)
    }
}

/// A range of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Where its first block begins in the segment's file. That block holds frames.
    pub(super) position: u64,
    /// Offset of the first frame of that block.
    pub(super) first_offset: u64,
    /// Receive times of its frames.
    pub(super) times: Times,
}

impl Chunk {
    pub(super) fn push(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.position.to_le_bytes());
        into.extend_from_slice(&self.first_offset.to_le_bytes());
        into.extend_from_slice(&self.times.bytes());
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let position = cursor.u64()?;
        let first_offset = cursor.u64()?;
        Some(Self { position, first_offset, times: Times::read(cursor)? })
    }
}

/// The directory entry of one origin and lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The origin.
    pub(super) origin: Arc<Origin>,
    /// The lane.
    pub(super) priority: FramePriority,
    /// Number of frames.
    pub(super) frames: u64,
    /// Their receive times.
    pub(super) times: Times,
    /// Bytes of the segment in its extents.
    pub(super) extents_len: u64,
    /// Where its extent list lies in the index file.
    pub(super) list_at: u64,
    /// Bytes of the extent list. 0: it was left out, and readers scan.
    pub(super) list_len: u64,
    /// CRC-32C of the extent list.
    pub(super) list_crc: u32,
}

impl Entry {
    /// Size of an encoded entry without its station, in bytes.
    pub(super) const BYTES: usize = 80;

    pub(super) fn push(&self, into: &mut Vec<u8>) {
        push_origin(into, &self.origin.stream, self.origin.epoch);
        into.push(self.priority as u8);
        into.extend_from_slice(&[0; 7]);
        into.extend_from_slice(&self.frames.to_le_bytes());
        into.extend_from_slice(&self.times.bytes());
        into.extend_from_slice(&self.extents_len.to_le_bytes());
        into.extend_from_slice(&self.list_at.to_le_bytes());
        into.extend_from_slice(&self.list_len.to_le_bytes());
        into.extend_from_slice(&self.list_crc.to_le_bytes());
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(self.origin.stream.station.as_str().as_bytes());
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let header = OriginHeader::read(cursor)?;
        let priority = FramePriority::from_wire(cursor.u8()?)?;
        cursor.take(7)?;
        let frames = cursor.u64()?;
        let times = Times::read(cursor)?;
        let extents_len = cursor.u64()?;
        let list_at = cursor.u64()?;
        let list_len = cursor.u64()?;
        let list_crc = cursor.u32()?;
        cursor.take(4)?;
        let origin = Arc::new(Origin { stream: header.read_stream_key(cursor)?, epoch: header.epoch });
        Some(Self { origin, priority, frames, times, extents_len, list_at, list_len, list_crc })
    }

    /// The order of the directory.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| (entry.origin.epoch, entry.priority);
        self.origin.stream.cmp(&other.origin.stream).then_with(|| key(self).cmp(&key(other)))
    }
}

/// A range of bytes of one block with frames of one origin and lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it begins in the segment's file.
    pub(super) position: u64,
    /// Its bytes.
    pub(super) length: u32,
    /// Offset of its first frame.
    pub(super) first_offset: u64,
    /// Number of the origin in the table of the block.
    pub(super) origin: u16,
    /// CRC-32C of its bytes.
    pub(super) crc: u32,
}

/// Appends extents to an extent list.
pub(super) struct ExtentEncoder {
    /// The list so far.
    pub(super) bytes: Vec<u8>,
    /// Position behind the last extent: the next one is written relative to it.
    end: u64,
    /// First offset of the last extent, for the same purpose.
    first_offset: u64,
}

impl ExtentEncoder {
    pub(super) fn new(base_offset: u64) -> Self {
        Self { bytes: Vec::new(), end: 0, first_offset: base_offset }
    }

    /// Appends `extent`, which must lie behind the previous extent.
    pub(super) fn push(&mut self, extent: &Extent) {
        push_number(&mut self.bytes, extent.position - self.end);
        push_number(&mut self.bytes, u64::from(extent.length));
        push_number(&mut self.bytes, extent.first_offset - self.first_offset);
        push_number(&mut self.bytes, u64::from(extent.origin));
        self.bytes.extend_from_slice(&extent.crc.to_le_bytes());
        self.end = extent.position + u64::from(extent.length);
        self.first_offset = extent.first_offset;
    }
}

/// Error: an extent list is inconsistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads an extent list from front to back.
pub(super) struct ExtentDecoder {
    /// The list.
    bytes: Vec<u8>,
    /// Index in `bytes` of the next extent.
    at: usize,
    /// As [`ExtentEncoder::end`].
    end: u64,
    /// As [`ExtentEncoder::first_offset`].
    first_offset: u64,
    /// Length of the segment's file. No extent may reach beyond it.
    covered: u64,
}

impl ExtentDecoder {
    /// Creates a decoder for a segment of `covered` bytes that begins at `base_offset`.
    pub(super) fn new(bytes: Vec<u8>, base_offset: u64, covered: u64) -> Self {
        Self { bytes, at: 0, end: 0, first_offset: base_offset, covered }
    }

    /// Returns the next extent, or `None` at the end of the list.
    pub(super) fn next(&mut self) -> Result<Option<Extent>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        self.read().map(Some).ok_or(Malformed)
    }

    fn read(&mut self) -> Option<Extent> {
        let mut cursor = Cursor(self.bytes.get(self.at..)?);
        let position = self.end.checked_add(number(&mut cursor)?)?;
        let length = number(&mut cursor)?;
        let first_offset = self.first_offset.checked_add(number(&mut cursor)?)?;
        let origin = u16::try_from(number(&mut cursor)?).ok()?;
        let crc = cursor.u32()?;
        let end = position.checked_add(length)?;
        if end > self.covered || !(FRAME_HEADER_BYTES as u64..=BODY_BYTES_MAX).contains(&length) {
            return None;
        }
        self.at = self.bytes.len() - cursor.0.len();
        (self.end, self.first_offset) = (end, first_offset);
        Some(Extent { position, length: u32::try_from(length).ok()?, first_offset, origin, crc })
    }
}

/// Appends `number` as LEB128: 7 bits to a byte, the lowest first. The top bit says that another byte follows.
fn push_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Reads a number as [`push_number`] writes it.
fn number(cursor: &mut Cursor<'_>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = cursor.u8()?;
        let bits = u64::from(byte & 0x7F);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
