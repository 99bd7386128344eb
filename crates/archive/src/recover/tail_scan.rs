//! Scans the last segment at the start: finds the attested, torn and damaged parts.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::OpenError;
use crate::config::HOLES_MAX;
use crate::format::StreamPosition;
use crate::format::{
    ALIGNMENT, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, HoleRecord, PositionsPart, SEGMENT_HEADER_BYTES,
    VERSION,
};
use crate::read::scan::{HeaderState, ScanStep, Scanner};
use crate::storage::StorageError;
use crate::storage::dir::Dir;
use frame::StreamKey;

/// Bytes read at once in the search for headers.
const PIECE_BYTES: u64 = 256 << 10;

/// The result of a scan of the last segment.
pub(super) struct TailScan {
    /// The file of the segment.
    pub(super) path: PathBuf,
    /// Offset of its first frame.
    pub(super) base: u64,
    /// `None` if the segment header is damaged.
    pub(super) log_id: Option<u64>,
    /// The id in its header; 0 if the header is damaged.
    pub(super) segment_id: u64,
    /// The positions at the base, if all of them are readable.
    pub(super) positions: Option<Vec<(StreamKey, StreamPosition)>>,
    /// All frames below this offset were durable when the segment was last written.
    pub(super) attested: u64,
    /// Offset behind the last frame that is kept or was acknowledged.
    pub(super) next_offset: u64,
    /// Damaged ranges below `attested`.
    pub(super) holes: Vec<HoleRecord>,
    /// Bytes to cut off. Empty, at the end of the last block, if there is nothing to cut off.
    pub(super) torn: Range<u64>,
    /// Position behind the last block that is not an attestation. In a clean segment writing continues here.
    pub(super) end: u64,
    /// Position behind the blocks that stay in this segment when its tail is rewritten.
    pub(super) kept_end: u64,
    /// Bodies of the hole records of earlier starts.
    pub(super) hole_records: Vec<Bytes>,
    /// Number of readable blocks.
    block_count: u64,
}

impl TailScan {
    /// Whether the segment has no readable block.
    pub(super) fn is_void(&self) -> bool {
        self.block_count == 0
    }

    /// Whether writing can continue in the segment as it is.
    pub(super) fn is_clean(&self) -> bool {
        self.can_be_synced_in_place() && self.attested == self.next_offset
    }

    /// Whether the segment is sound, except that its tail may be only in the page cache.
    pub(super) fn can_be_synced_in_place(&self) -> bool {
        self.log_id.is_some() && self.positions.is_some() && self.holes.is_empty() && self.torn.is_empty()
    }

    /// Whether the block is part of the tail that must be rewritten.
    pub(super) fn is_tail(&self, header: &BlockHeader) -> bool {
        header.kind == BlockKind::Frames
            && header.first_offset >= self.attested
            && header.position < self.torn.start
    }
}

/// Opens a segment. Checks that its header matches its name and that this build knows its version.
pub(super) fn checked_scan(dir: &Dir, base: u64) -> Result<Scanner, OpenError> {
    let scanner = dir.scan(base)?;
    let path = scanner.path().to_owned();
    match scanner.header() {
        HeaderState::Version(found) => Err(OpenError::Version { path, found, expected: VERSION }),
        HeaderState::Sound(header) if header.base_offset != base => {
            Err(OpenError::Misnamed { path, found: header.base_offset })
        }
        HeaderState::Sound(_) | HeaderState::Damaged => Ok(scanner),
    }
}

/// Scans the segment `base` once. The frames below the offset `durable` are known to be acknowledged.
pub(super) fn tail_scan(dir: &Dir, base: u64, durable: u64) -> Result<TailScan, OpenError> {
    let mut scanner = checked_scan(dir, base)?;
    let mut walk = Walk::new(base);
    let mut end = loop {
        match scanner.next()? {
            ScanStep::Block(header, body) => walk.block(&header, &body),
            ScanStep::Damage(bytes) => walk.damage = Some(bytes),
            ScanStep::End(position) => break position,
        }
    };
    if let Some(proof) = proof_behind(&scanner, walk.segment_id, end)? {
        if walk.next_offset < proof.synced_offset {
            walk.missing(proof.synced_offset, &(end..proof.position));
            walk.next_offset = proof.synced_offset;
            end = proof.position;
        }
        walk.attested = walk.attested.max(proof.synced_offset);
    }
    if walk.next_offset < durable {
        let damage = end..scanner.content_end(end)?;
        walk.missing(durable, &damage);
        end = damage.end;
    }
    walk.attested = walk.attested.max(durable);
    let cut = walk.cut().unwrap_or(end);
    let torn_end = scanner.content_end(cut)?;
    let header = scanner.sound_header();
    Ok(TailScan {
        path: scanner.path().to_owned(),
        base,
        log_id: header.map(|header| header.log_id),
        segment_id: header.map_or(0, |header| header.segment_id),
        attested: walk.attested,
        next_offset: walk.next_offset.max(walk.attested),
        torn: cut..torn_end,
        end: walk.end,
        kept_end: walk.kept_end(cut),
        hole_records: walk.hole_records,
        block_count: walk.block_count,
        positions: walk.positions.complete(),
        holes: walk.holes,
    })
}

/// Returns the sound block header behind `end` that attests the highest offset. The body of that block may be torn.
///
/// The writer wrote that header only after everything below its `synced_offset` was synced. So the bytes between `end`
/// and the header are not a torn commit but damage to acknowledged data.
pub(crate) fn proof_behind(
    scanner: &Scanner,
    segment_id: Option<u64>,
    end: u64,
) -> Result<Option<BlockHeader>, StorageError> {
    let content_end = scanner.content_end(end)?;
    let mut best: Option<BlockHeader> = None;
    let mut at = end;
    while segment_id.is_some() && at < content_end {
        match scanner.data_from(at)? {
            Some(data) if data < content_end => at = data,
            _ => break,
        }
        // A header may begin in one piece and end in the next one.
        let piece = scanner.raw(at..content_end.min(at + PIECE_BYTES) + BLOCK_HEADER_BYTES)?;
        let starts = (0..PIECE_BYTES.min(piece.len() as u64)).step_by(ALIGNMENT as usize);
        for start in starts {
            let bytes = &piece[start as usize..];
            if BlockHeader::is_magic(bytes)
                && let Ok(header) = BlockHeader::decode(bytes, at + start, segment_id)
                && best.is_none_or(|best| header.synced_offset > best.synced_offset)
            {
                best = Some(header);
            }
        }
        at += PIECE_BYTES;
    }
    Ok(best)
}

/// What the scan knows after the blocks it has read. The fields are those of [`TailScan`].
struct Walk {
    /// Offset of the segment's first frame.
    base: u64,
    /// Segment id of the first sound block. Stands in for a damaged segment header.
    segment_id: Option<u64>,
    /// Highest `synced_offset` of a block, at least the base: all frames below it are durable.
    attested: u64,
    /// Offset behind the last frame.
    next_offset: u64,
    /// Damaged bytes in front of the next block. That block shows which offsets are missing.
    damage: Option<Range<u64>>,
    /// Offsets that are missing so far, attested or not. [`Self::cut`] separates them.
    holes: Vec<HoleRecord>,
    /// The positions blocks at the start of the segment.
    positions: PositionsCollector,
    /// Offset and position of each frames block that no later block attests.
    tail: Vec<(u64, u64)>,
    /// Position behind the last block that is not an attestation.
    end: u64,
    /// Bodies of the hole records of earlier starts.
    hole_records: Vec<Bytes>,
    /// Number of readable blocks.
    block_count: u64,
}

impl Walk {
    fn new(base: u64) -> Self {
        Self {
            base,
            segment_id: None,
            attested: base,
            next_offset: base,
            damage: None,
            holes: Vec::new(),
            positions: PositionsCollector::default(),
            tail: Vec::new(),
            end: SEGMENT_HEADER_BYTES,
            hole_records: Vec::new(),
            block_count: 0,
        }
    }

    fn block(&mut self, header: &BlockHeader, body: &Bytes) {
        self.block_count += 1;
        self.segment_id.get_or_insert(header.segment_id);
        let damage = self.damage.take().unwrap_or(header.position..header.position);
        let lost = self.next_offset..header.first_offset;
        if !lost.is_empty() && !HoleRecord::explains(header, body, &lost) {
            self.missing(header.first_offset, &damage);
        }
        self.attested = self.attested.max(header.synced_offset);
        self.next_offset = self.next_offset.max(header.next_offset());
        if header.kind != BlockKind::Attestation {
            self.end = header.end();
        }
        match header.kind {
            BlockKind::Positions => self.positions.take(body),
            BlockKind::Frames => {
                let attested = self.attested;
                self.tail.retain(|(offset, _)| *offset >= attested);
                self.tail.push((header.first_offset, header.position));
            }
            BlockKind::Hole if self.hole_records.len() < HOLES_MAX => self.hole_records.push(body.clone()),
            BlockKind::Attestation | BlockKind::Hole => {}
        }
    }

    /// Records that the offsets from `next_offset` to `to_offset` are missing. The caller then raises `next_offset`.
    fn missing(&mut self, to_offset: u64, damage: &Range<u64>) {
        if self.holes.len() == HOLES_MAX
            && let Some(last) = self.holes.last_mut()
        {
            // From here on one record spans several holes and the sound blocks between them. Readers search that range
            // themselves.
            last.to_offset = to_offset;
            last.bytes = damage.end - last.position;
            return;
        }
        self.holes.push(HoleRecord {
            from_offset: self.next_offset,
            to_offset,
            base_offset: self.base,
            position: damage.start,
            bytes: damage.end - damage.start,
        });
    }

    /// Position of the first block that must be rewritten, or `cut` if there is none.
    fn kept_end(&self, cut: u64) -> u64 {
        let unattested = |(offset, _): &&(u64, u64)| *offset >= self.attested;
        let first = self.tail.iter().find(unattested);
        first.map_or(cut, |(_, position)| cut.min(*position))
    }

    /// Position at which the tail is cut off: the first gap that no later block attests. Frames behind it were never
    /// acknowledged, so `next_offset` falls back to the gap.
    fn cut(&mut self) -> Option<u64> {
        let attested = self.attested;
        let index = self.holes.iter().position(|hole| hole.from_offset >= attested)?;
        let cut = self.holes[index].position;
        self.next_offset = self.holes[index].from_offset;
        self.holes.truncate(index);
        Some(cut)
    }
}

/// Collects the positions blocks of one segment.
#[derive(Default)]
pub(super) struct PositionsCollector {
    /// Number of positions, as each block says; `None` before the first block.
    total: Option<u32>,
    /// The positions of the blocks so far. The blocks come in order and without gaps.
    entries: Vec<(StreamKey, StreamPosition)>,
    /// Whether a block was malformed or out of order. Then there are no positions.
    broken: bool,
}

impl PositionsCollector {
    /// Adds the body of the next positions block.
    pub(super) fn take(&mut self, body: &[u8]) {
        match PositionsPart::decode(body) {
            Some(part)
                if part.first as usize == self.entries.len()
                    && self.total.is_none_or(|total| total == part.total) =>
            {
                self.total = Some(part.total);
                self.entries.extend(part.entries);
            }
            _ => self.broken = true,
        }
    }

    /// The positions, if all blocks were read. `None` also without any block.
    pub(super) fn complete(self) -> Option<Vec<(StreamKey, StreamPosition)>> {
        let complete = !self.broken && self.total == u32::try_from(self.entries.len()).ok();
        complete.then_some(self.entries)
    }
}
