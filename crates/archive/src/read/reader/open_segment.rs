//! The segment that a reader has open, and the strategy to read it.

use std::path::Path;
use std::vec::IntoIter;

use super::Filter;
use crate::format::{BlockHeader, HoleRecord, SEGMENT_HEADER_BYTES};
use crate::read::index::{ChunkRange, Index, Merge, Plan};
use crate::read::scan::{HeaderState, ScanStep, Scanner};
use crate::storage::{Storage, StorageError};

/// An open segment.
pub(super) struct OpenSegment {
    /// Offset of the first frame, by the name of the file.
    pub(super) base: u64,
    /// Reads its blocks.
    pub(super) scanner: Scanner,
    /// Base of the next segment, if there is one. The next segment supersedes the frames of this one from that offset
    /// on.
    pub(super) end_offset: Option<u64>,
    /// Whether `end_offset` belongs to the segment directly behind this one. If not, retention may have removed
    /// segments between.
    end_is_sure: bool,
    /// Whether the reader reached the end of this segment after the next segment appeared.
    pub(super) ended: bool,
    /// Whether the header is damaged and the reader has not reported that yet.
    pub(super) is_header_damaged: bool,
    /// How the rest of the segment is read.
    pub(super) strategy: Strategy,
    /// The holes that the next segment records. `None` until they are read.
    pub(super) holes: Option<Vec<HoleRecord>>,
    /// Whether the reader has searched all bytes behind the last block once.
    searched: bool,
}

/// How a segment is read.
pub(super) enum Strategy {
    /// Reads every block.
    Whole,
    /// Reads only the byte ranges that the index selects.
    Ranges(RangeWalk),
    /// Reads only the extents that the index selects. `covered` is the end of the segment in bytes.
    Extents { merge: Merge, covered: u64 },
}

/// The ranges that are still to be read.
pub(super) struct RangeWalk {
    /// The ranges behind the current one.
    left: IntoIter<ChunkRange>,
    /// The current range; `None` before the first and behind the last.
    at: Option<ChunkRange>,
    /// First offset of the current range, until the reader has seen the first block of the range.
    entered: Option<u64>,
    /// The reader has returned every requested frame below this offset.
    reached: u64,
    /// Length of the segment's file, as the index says. Behind the last range, reading continues there.
    covered: u64,
}

/// The index does not match the segment.
pub(super) struct IndexMismatch {
    /// The reader has returned every requested frame below this offset.
    pub(super) reached: u64,
}

impl OpenSegment {
    pub(super) fn new(base: u64, scanner: Scanner) -> Self {
        let is_header_damaged = scanner.header() == HeaderState::Damaged;
        Self {
            base,
            scanner,
            end_offset: None,
            end_is_sure: false,
            ended: false,
            is_header_damaged,
            strategy: Strategy::Whole,
            holes: None,
            searched: false,
        }
    }

    /// Records the base of the next segment from a listing of the directory. `is_listed` says whether the listing
    /// contains this segment.
    ///
    /// Retention removes the oldest segments first. So while this segment is listed, all segments behind it are listed
    /// too.
    pub(super) fn see_next(&mut self, next: u64, is_listed: bool) {
        if is_listed || self.end_offset.is_none() {
            self.end_offset = Some(next);
            self.end_is_sure = is_listed;
        }
    }

    /// Offset behind the last frame, if that is known.
    pub(super) fn sure_end(&self) -> Option<u64> {
        self.end_offset.filter(|_| self.end_is_sure)
    }

    /// Looks for an index if it can save reads: the segment is sealed and the filter does not ask for all of it.
    pub(super) fn choose_strategy(&mut self, storage: &dyn Storage, dir: &Path, filter: &Filter, from: u64) {
        let narrow = !filter.selection.is_all()
            || filter.epoch.is_some()
            || filter.from_received_ns.is_some()
            || filter.to_received_ns.is_some()
            || from > self.base;
        if let (true, Some(end), Some(segment)) = (narrow, self.sure_end(), self.scanner.sound_header())
            && let Ok(len) = self.scanner.size()
            && let Some(index) = Index::open(storage, dir, &segment, len)
            && segment.base_offset == self.base
            && index.header.next_offset == end
            && let Some(plan) = index.plan(filter, from)
        {
            let covered = index.covered();
            self.strategy = match plan {
                Plan::Extents(merge) => Strategy::Extents { merge, covered },
                Plan::Walk(ranges) => Strategy::Ranges(RangeWalk {
                    left: ranges.into_iter(),
                    at: None,
                    entered: None,
                    reached: from,
                    covered,
                }),
            };
        }
    }

    /// Returns the next step of the chosen strategy. All frames below `next_offset` are already returned. Moves
    /// `next_offset` forward over frames that the index excludes.
    pub(super) fn step(
        &mut self,
        next_offset: &mut u64,
        more: bool,
    ) -> Result<Result<ScanStep, IndexMismatch>, StorageError> {
        if let Strategy::Ranges(ranges) = &mut self.strategy {
            let end = self.end_offset.unwrap_or(*next_offset);
            match ranges.enter(&mut self.scanner, next_offset, end) {
                Err(mismatch) => return Ok(Err(mismatch)),
                Ok(true) => {}
                Ok(false) => self.strategy = Strategy::Whole,
            }
        }
        // The space allocated ahead is searched once, in case a block header was overwritten with zeros. Later reads at
        // the live end skip that search. When the next segment exists, everything is searched.
        let live = self.end_offset.is_none() && !more && self.searched;
        if live && self.scanner.is_at_zeros()? {
            return Ok(Ok(ScanStep::End(self.scanner.position())));
        }
        let step = self.scanner.next()?;
        self.searched |= matches!(step, ScanStep::End(_));
        let Strategy::Ranges(ranges) = &mut self.strategy else {
            return Ok(Ok(step));
        };
        Ok(match &step {
            ScanStep::Block(header, _) if ranges.is_expected(header) => Ok(step),
            _ => Err(IndexMismatch { reached: ranges.reached(*next_offset) }),
        })
    }

    /// Reads the whole segment from its beginning.
    pub(super) fn start_over(&mut self) {
        self.strategy = Strategy::Whole;
        self.scanner.seek(SEGMENT_HEADER_BYTES);
    }
}

impl RangeWalk {
    /// Enters the next range if the current one is finished. Returns `false` behind the last range.
    fn enter(
        &mut self,
        scanner: &mut Scanner,
        next_offset: &mut u64,
        end_offset: u64,
    ) -> Result<bool, IndexMismatch> {
        if let Some(at) = &self.at {
            if scanner.position() < at.positions.end {
                return Ok(true);
            }
            if *next_offset != at.offsets.end {
                return Err(IndexMismatch { reached: *next_offset });
            }
            self.reached = *next_offset;
        }
        self.at = self.left.next();
        let (position, offset) = match &self.at {
            Some(range) => (range.positions.start, range.offsets.start),
            None => (self.covered, end_offset),
        };
        self.entered = self.at.as_ref().map(|range| range.offsets.start);
        scanner.seek(position);
        *next_offset = offset;
        Ok(self.at.is_some())
    }

    /// Whether the block may come here: the first block of a range must begin at the offset that the index says.
    fn is_expected(&mut self, header: &BlockHeader) -> bool {
        let expected = self.entered.take();
        let sound = expected.is_none_or(|offset| header.first_offset == offset);
        if !sound {
            self.entered = expected;
        }
        sound
    }

    /// The offset below which everything was returned. `next_offset` is not proven until the first block of the range
    /// has come.
    fn reached(&self, next_offset: u64) -> u64 {
        if self.entered.is_some() { self.reached } else { next_offset }
    }
}
