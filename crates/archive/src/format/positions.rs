//! The bodies of positions blocks. `format.rs` has the table of their bytes.

use super::bytes::Cursor;
use super::frames::{OriginHeader, push_origin};
use super::{ALIGNMENT, BLOCK_HEADER_BYTES, ORIGIN_HEADER_BYTES, POSITIONS_PREFIX_BYTES, aligned};
use frame::{Lanes, Station, StreamKey};

/// The position of a stream: where its client resumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// The stream's current sequence space.
    pub epoch: u64,
    /// Per lane: one past the highest durable sequence of the epoch, 0 if there is none. Frames of one lane become
    /// durable in their order, so every accepted frame below is durable. The client may have left out sequences.
    pub next: Lanes<u64>,
}

/// Largest number of streams in one positions block. This keeps a block near 100 KiB.
const STREAMS_PER_BLOCK: usize = 1_024;
/// Bytes of [`StreamPosition::next`].
const NEXT_BYTES: usize = 16;

/// Most bytes that the positions of `streams` streams take, block headers included.
pub(crate) fn position_bytes_max(streams: usize) -> u64 {
    let blocks = streams.div_ceil(STREAMS_PER_BLOCK).max(1) as u64;
    let entry = (ORIGIN_HEADER_BYTES + NEXT_BYTES + Station::BYTES_MAX) as u64;
    let fixed = BLOCK_HEADER_BYTES + aligned(POSITIONS_PREFIX_BYTES as u64) + ALIGNMENT;
    blocks * fixed + streams as u64 * entry
}

/// The bodies of the blocks that hold `positions`. Without streams there is one block that says so: a segment without
/// any block of positions is damaged.
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

/// One body, padded: the positions `first..first + entries.len()` of `total`.
fn encode(total: usize, first: usize, entries: &[(&StreamKey, &StreamPosition)]) -> Vec<u8> {
    let mut body = Vec::new();
    let reserved = 0;
    for field in [total, first, entries.len(), reserved] {
        body.extend_from_slice(&(field as u32).to_le_bytes());
    }
    for (stream, position) in entries {
        // The origin holds the length of the station. The name itself follows behind `next`.
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
    /// Number of positions in all blocks of the segment.
    pub(crate) total: u32,
    /// Number of positions in the blocks before this one.
    pub(crate) first: u32,
    /// The positions in this block.
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
