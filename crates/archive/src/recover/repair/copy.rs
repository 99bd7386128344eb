//! Copies the log: one new segment for each readable segment. The segments are contiguous, and each hole is recorded in
//! place.

use std::ops::Range;

use bytes::Bytes;

use super::super::older::apply_block;
use super::super::proof_behind;
use super::super::tail_scan::PositionsCollector;
use super::super::unreadable::offset_bound;
use super::source::{Source, sources};
use super::{LostFrames, RepairReport};
use crate::format::{BlockHeader, BlockKind, FrameIter, HoleRecord};
use crate::log::positions::PositionTable;
use crate::log::segment::{BlockContent, Segment};
use crate::read::scan::{ScanStep, Scanner};
use crate::storage::dir::{Dir, beyond_offsets};
use crate::storage::{Access, StorageError};
use crate::{Config, ReadError};

/// Copies the log in `from` to the empty directory `to`.
pub(super) fn copy(from: &Dir, to: &Dir) -> Result<RepairReport, ReadError> {
    let sources = sources(from)?;
    let mut report = RepairReport {
        has_new_log_id: sources.log_id.is_none(),
        foreign: sources.foreign,
        ..RepairReport::default()
    };
    let first = sources.segments.first().map_or(0, |segment| segment.base);
    (report.first_offset, report.next_offset) = (first, first);
    let mut copier = Copier {
        from,
        to,
        log_id: sources.log_id.unwrap_or_else(|| rand::random_range(1..u64::MAX)),
        table: PositionTable::unlimited(),
        target: None,
        segment_bytes_max: bytes_max(from, &sources.segments)?,
        report,
    };
    for source in &sources.segments {
        copier.segment(source)?;
    }
    copier.seal(true)?;
    copier.report.streams = copier.table.sorted().len();
    Ok(copier.report)
}

/// The size of the largest of `segments`, at least the default size of a segment: a damaged one may have been cut
/// short.
fn bytes_max(from: &Dir, segments: &[Source]) -> Result<u64, StorageError> {
    segments.iter().try_fold(Config::SEGMENT_BYTES, |max, source| Ok(max.max(from.size(&source.path)?)))
}

/// The copy while it is written.
struct Copier<'a> {
    /// The damaged archive.
    from: &'a Dir,
    /// The directory of the copy.
    to: &'a Dir,
    /// The id of the log, which each segment of the copy gets.
    log_id: u64,
    /// Positions at the next offset.
    table: PositionTable,
    /// The segment being written; `None` until something is written behind the last one.
    target: Option<Segment>,
    /// Size of the largest segment, as far as known.
    segment_bytes_max: u64,
    /// What is copied and lost so far. Its `next_offset` is where the copy goes on.
    report: RepairReport,
}

/// What the copier has read of the current source.
#[derive(Default)]
struct Seen {
    /// The positions blocks so far. Taken at the first block of another kind, because they come first.
    positions: PositionsCollector,
    /// Damaged bytes before the next block.
    damage: Option<Range<u64>>,
    /// The id in the blocks; `None` before the first.
    segment_id: Option<u64>,
    /// All frames below this offset were on stable storage.
    synced_offset: u64,
    /// Number of readable blocks.
    blocks: u64,
}

impl Copier<'_> {
    /// Copies the segment `source`, into a segment of its own.
    fn segment(&mut self, source: &Source) -> Result<(), ReadError> {
        let mut scanner = Scanner::open(&*self.from.storage, &source.path)?;
        self.seal(false)?;
        let mut seen = Seen::default();
        let end = loop {
            match scanner.next()? {
                ScanStep::Block(header, body) => self.block(source, &mut seen, &header, body)?,
                ScanStep::Damage(bytes) => seen.damage = Some(bytes),
                ScanStep::End(position) => break position,
            }
        };
        self.end(source, &scanner, &mut seen, end)
    }

    /// Copies a block of frames if it is the next one of the copy, and records what is missing in front of it. Each
    /// copied block says that all before it is durable: the copy counts only once it is synced as a whole.
    fn block(
        &mut self,
        source: &Source,
        seen: &mut Seen,
        header: &BlockHeader,
        body: Bytes,
    ) -> Result<(), StorageError> {
        seen.blocks += 1;
        seen.segment_id.get_or_insert(header.segment_id);
        seen.synced_offset = seen.synced_offset.max(header.synced_offset);
        if header.kind == BlockKind::Positions {
            seen.positions.take(&body);
            return Ok(());
        }
        if let Some(entries) = std::mem::take(&mut seen.positions).complete() {
            self.table.restore(entries);
        }
        let superseded = source.end.is_some_and(|end| header.first_offset >= end);
        if superseded && header.kind == BlockKind::Frames {
            return Ok(());
        }
        let damage = seen.damage.take().unwrap_or(header.position..header.position);
        self.lose(header.first_offset, source, damage)?;
        let is_next = header.first_offset == self.report.next_offset && header.kind == BlockKind::Frames;
        if !is_next {
            return Ok(());
        }
        let is_sound = FrameIter::new(header, body.clone())
            .is_some_and(|mut frames| frames.all(|frame| frame.is_some()));
        if !is_sound {
            return self.lose(header.next_offset(), source, header.position..header.end());
        }
        self.target()?.push(&BlockContent::copied(header, &body, header.first_offset))?;
        apply_block(header, body, &mut self.table);
        self.report.frames += u64::from(header.frame_count);
        self.report.next_offset = header.next_offset();
        Ok(())
    }

    /// Handles the bytes behind the last whole block. Frames are lost up to the base of the next segment. In the newest
    /// segment they are lost up to the highest attested offset.
    fn end(
        &mut self,
        source: &Source,
        scanner: &Scanner,
        seen: &mut Seen,
        position: u64,
    ) -> Result<(), ReadError> {
        if let Some(entries) = std::mem::take(&mut seen.positions).complete() {
            self.table.restore(entries);
        }
        let content_end = scanner.content_end(position)?;
        let proof = proof_behind(scanner, seen.segment_id, position)?;
        let proven = proof.map_or(0, |header| header.synced_offset).max(seen.synced_offset);
        let damage_end = proof.map_or(content_end, |header| header.position);
        let known = match source.end {
            Some(end) => end,
            None if seen.blocks > 0 => proven,
            // As in recovery: the log never reuses an offset that the unreadable segment may have held.
            None => offset_bound(source.base, self.segment_bytes_max)
                .ok_or_else(|| beyond_offsets(&source.path))?,
        };
        let is_lost = known > self.report.next_offset;
        self.lose(known, source, position..damage_end)?;
        if source.end.is_none() {
            self.report.torn_bytes = content_end - if is_lost { damage_end } else { position };
        }
        Ok(())
    }

    /// Records that the offsets up to `to_offset` are lost. Does nothing if the copy already reaches `to_offset`.
    fn lose(&mut self, to_offset: u64, source: &Source, bytes: Range<u64>) -> Result<(), StorageError> {
        let from_offset = self.report.next_offset;
        if to_offset <= from_offset {
            return Ok(());
        }
        let record = HoleRecord {
            from_offset,
            to_offset,
            base_offset: source.base,
            position: bytes.start,
            bytes: bytes.end - bytes.start,
        };
        self.target()?.push(&BlockContent::plain(BlockKind::Hole, to_offset, &record.encode()))?;
        self.report.next_offset = to_offset;
        let lost = LostFrames { offsets: from_offset..to_offset, segment: source.path.clone(), bytes };
        self.report.lost.push(lost);
        Ok(())
    }

    /// Returns the segment being written. Creates one if there is none.
    fn target(&mut self) -> Result<&mut Segment, StorageError> {
        if self.target.is_none() {
            let path = self.to.recovery();
            let file = self.to.open_log(&path, Access::Create, 0)?;
            let base = self.report.next_offset;
            self.target = Some(Segment::begin(path, file, self.log_id, base, &self.table)?);
            self.report.segments += 1;
        }
        Ok(self.target.as_mut().expect("it was begun above"))
    }

    /// Makes the segment being written durable under its name. Does nothing while it is empty.
    ///
    /// The last segment also gets an attestation that all of it is durable. It is created even if nothing was readable.
    fn seal(&mut self, is_last: bool) -> Result<(), StorageError> {
        if is_last {
            self.target()?;
        }
        let Some(mut segment) =
            self.target.take_if(|target| is_last || target.base < self.report.next_offset)
        else {
            return Ok(());
        };
        if is_last {
            segment.sync()?;
            segment.push(&BlockContent::plain(BlockKind::Attestation, self.report.next_offset, &[]))?;
        }
        segment.install(self.to)
    }
}
