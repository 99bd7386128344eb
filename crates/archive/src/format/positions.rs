//! The bodies of positions and hole blocks.

use std::ops::Range;

use super::bytes::Cursor;
use super::frames::{OriginHeader, push_origin};
use super::{
    ALIGNMENT, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, OFFSET_MAX, ORIGIN_HEADER_BYTES,
    POSITIONS_PREFIX_BYTES, aligned,
};
use frame::{Lanes, Station, StreamKey};

/// The position of a stream: everything below `next` is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// The stream's current sequence space.
    pub epoch: u64,
    /// One past the highest durable sequence.
    pub next: Lanes<u64>,
}

/// Largest number of streams in one positions block. This keeps a block near 100 KiB.
const STREAMS_PER_BLOCK: usize = 1_024;
const NEXT_BYTES: usize = 16;

/// Most bytes that the positions of `streams` streams take, block headers included.
pub(crate) fn position_bytes_max(streams: usize) -> u64 {
    let blocks = streams.div_ceil(STREAMS_PER_BLOCK).max(1) as u64;
    let entry = (ORIGIN_HEADER_BYTES + NEXT_BYTES + Station::BYTES_MAX) as u64;
    let fixed = BLOCK_HEADER_BYTES + aligned(POSITIONS_PREFIX_BYTES as u64) + ALIGNMENT;
    blocks * fixed + streams as u64 * entry
}

/// The bodies of the blocks that hold `positions`; at least one.
pub(crate) fn position_blocks<'a>(
    positions: &'a [(&'a StreamKey, &'a StreamPosition)],
) -> impl Iterator<Item = Vec<u8>> + 'a {
    let blocks = positions.len().div_ceil(STREAMS_PER_BLOCK).max(1);
    (0..blocks).map(move |block| {
        let first = block * STREAMS_PER_BLOCK;
        let end = positions.len().min(first + STREAMS_PER_BLOCK);
        encode(positions.len(), first, &positions[first..end])
    })
}

fn encode(total: usize, first: usize, entries: &[(&StreamKey, &StreamPosition)]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [total, first, entries.len(), 0] {
        body.extend_from_slice(&(field as u32).to_le_bytes());
    }
    for (stream, position) in entries {
        push_origin(&mut body, stream, position.epoch);
        for next in position.next.values() {
            body.extend_from_slice(&next.to_le_bytes());
        }
        body.extend_from_slice(stream.station.as_str().as_bytes());
    }
    body.resize(body.len().next_multiple_of(ALIGNMENT as usize), 0);
    body
}

/// One decoded positions block.
pub(crate) struct PositionsPart {
    pub(crate) total: u32,
    pub(crate) first: u32,
    pub(crate) entries: Vec<(StreamKey, StreamPosition)>,
}

impl PositionsPart {
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let total = cursor.u32()?;
        let first = cursor.u32()?;
        let count = cursor.u32()?;
        cursor.take(4)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let origin = OriginHeader::read(&mut cursor)?;
            let next = Lanes::new(cursor.u64()?, cursor.u64()?);
            let stream = origin.read_stream_key(&mut cursor)?;
            let epoch = origin.epoch;
            entries.push((stream, StreamPosition { epoch, next }));
        }
        Some(Self { total, first, entries })
    }
}

/// The body of a hole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoleRecord {
    pub(crate) from_offset: u64,
    pub(crate) to_offset: u64,
    pub(crate) base_offset: u64,
    pub(crate) position: u64,
    pub(crate) bytes: u64,
}

impl HoleRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(
            self.from_offset <= self.to_offset && self.to_offset <= OFFSET_MAX,
            "a hole that is no range: {self:?}"
        );
        let fields = [self.from_offset, self.to_offset, self.base_offset, self.position, self.bytes];
        fields.iter().flat_map(|field| field.to_le_bytes()).collect()
    }

    /// Returns whether the block of `header` and `body`, which follows the `missing` offsets, records all of them as a
    /// hole.
    pub(crate) fn explains(header: &BlockHeader, body: &[u8], missing: &Range<u64>) -> bool {
        let record = if header.kind == BlockKind::Hole { Self::decode(body) } else { None };
        record.is_some_and(|record| record.covers(missing))
    }

    /// Returns whether the record covers all `missing` offsets.
    pub(crate) fn covers(&self, missing: &Range<u64>) -> bool {
        self.from_offset <= missing.start && missing.end <= self.to_offset
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let record = Self {
            from_offset: cursor.u64()?,
            to_offset: cursor.u64()?,
            base_offset: cursor.u64()?,
            position: cursor.u64()?,
            bytes: cursor.u64()?,
        };
        (record.from_offset <= record.to_offset && record.to_offset <= OFFSET_MAX).then_some(record)
    }
}
