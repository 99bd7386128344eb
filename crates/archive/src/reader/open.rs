//! The segment a reader is in, and how it goes through it.

use std::path::Path;
use std::vec::IntoIter;

use super::Filter;
use crate::format::{BlockHeader, HoleRecord, SEGMENT_HEADER_BYTES};
use crate::index::{Index, Merge, Plan, Span};
use crate::scan::{Head, Scanner, Step};
use crate::storage::{Storage, StorageError};

/// An open segment.
pub(super) struct Open {
    pub(super) base: u64,
    pub(super) scanner: Scanner,
    /// Base of the segment behind, once there is one: from there on this one is superseded.
    pub(super) end_offset: Option<u64>,
    /// Whether that segment follows this one without others in between that retention took.
    end_is_sure: bool,
    /// Whether its end was reached after the segment behind was seen.
    pub(super) ended: bool,
    /// Whether its header is damaged and nobody was told yet.
    pub(super) head_damaged: bool,
    pub(super) way: Way,
    /// The holes that the segment behind records, once it was asked for them.
    pub(super) holes: Option<Vec<HoleRecord>>,
    /// Whether everything behind the last block was searched once.
    searched: bool,
}

/// How a segment is read.
pub(super) enum Way {
    /// Block after block.
    Whole,
    /// Range after range, as its index has them.
    Spans(Spans),
    /// Run after run, as its index has them; `covered` is where the segment ends.
    Runs { merge: Merge, covered: u64 },
}

/// Ranges still to read.
pub(super) struct Spans {
    left: IntoIter<Span>,
    at: Option<Span>,
    /// First offset of the range just entered, until its first block is seen.
    entered: Option<u64>,
    /// Everything asked for below this offset has been yielded.
    reached: u64,
    covered: u64,
}

/// The index and the segment do not go together.
pub(super) struct Distrust {
    /// Everything asked for below this offset has been yielded.
    pub(super) reached: u64,
}

impl Open {
    pub(super) fn new(base: u64, scanner: Scanner) -> Self {
        let head_damaged = scanner.head() == Head::Damaged;
        Self {
            base,
            scanner,
            end_offset: None,
            end_is_sure: false,
            ended: false,
            head_damaged,
            way: Way::Whole,
            holes: None,
            searched: false,
        }
    }

    /// Notes the base of the segment behind, as the directory was listed, with this segment in it or without.
    ///
    /// Retention takes the oldest first: while this one is listed, so are those behind it.
    pub(super) fn see_next(&mut self, next: u64, is_listed: bool) {
        if is_listed || self.end_offset.is_none() {
            self.end_offset = Some(next);
            self.end_is_sure = is_listed;
        }
    }

    /// Offset behind its last frame, if that is known.
    pub(super) fn sure_end(&self) -> Option<u64> {
        self.end_offset.filter(|_| self.end_is_sure)
    }

    /// Looks for an index where it can save reading: in a sealed segment of which not everything is asked for.
    pub(super) fn choose_way(&mut self, storage: &dyn Storage, dir: &Path, filter: &Filter, from: u64) {
        let narrow = !filter.selection.is_all()
            || filter.from_received_ns.is_some()
            || filter.to_received_ns.is_some()
            || from > self.base;
        if let (true, Some(end), Head::Sound(segment)) = (narrow, self.sure_end(), self.scanner.head())
            && let Ok(len) = self.scanner.size()
            && let Some(index) = Index::open(storage, dir, &segment, len)
            && segment.base_offset == self.base
            && index.header.next_offset == end
            && let Some(plan) = index.plan(filter, from)
        {
            let covered = index.covered();
            self.way = match plan {
                Plan::Runs(merge) => Way::Runs { merge, covered },
                Plan::Walk(spans) => Way::Spans(Spans {
                    left: spans.into_iter(),
                    at: None,
                    entered: None,
                    reached: from,
                    covered,
                }),
            };
        }
    }

    /// What comes next on the chosen way, when everything below `next_offset` is done with, which moves on where the
    /// index says that nothing asked for lies in between.
    pub(super) fn step(
        &mut self,
        next_offset: &mut u64,
        more: bool,
    ) -> Result<Result<Step, Distrust>, StorageError> {
        if let Way::Spans(spans) = &mut self.way {
            let end = self.end_offset.unwrap_or(*next_offset);
            match spans.enter(&mut self.scanner, next_offset, end) {
                Err(distrust) => return Ok(Err(distrust)),
                Ok(true) => {}
                Ok(false) => self.way = Way::Whole,
            }
        }
        // Space allocated ahead is searched once, in case a block's header was wiped out; a later look at the live end
        // must not cost that again. When the next segment is there, everything is searched.
        let live = self.end_offset.is_none() && !more && self.searched;
        if live && self.scanner.is_at_zeros()? {
            return Ok(Ok(Step::End(self.scanner.position())));
        }
        let step = self.scanner.next()?;
        self.searched |= matches!(step, Step::End(_));
        let Way::Spans(spans) = &mut self.way else {
            return Ok(Ok(step));
        };
        Ok(match &step {
            Step::Block(header, _) if spans.is_expected(header) => Ok(step),
            _ => Err(Distrust { reached: spans.reached(*next_offset) }),
        })
    }

    /// Goes through the whole segment after all.
    pub(super) fn start_over(&mut self) {
        self.way = Way::Whole;
        self.scanner.seek(SEGMENT_HEADER_BYTES);
    }
}

impl Spans {
    /// Goes to the next range where one is done with; `false` behind the last.
    fn enter(
        &mut self,
        scanner: &mut Scanner,
        next_offset: &mut u64,
        end_offset: u64,
    ) -> Result<bool, Distrust> {
        if let Some(at) = &self.at {
            if scanner.position() < at.positions.end {
                return Ok(true);
            }
            if *next_offset != at.offsets.end {
                return Err(Distrust { reached: *next_offset });
            }
            self.reached = *next_offset;
        }
        self.at = self.left.next();
        let (position, offset) = match &self.at {
            Some(span) => (span.positions.start, span.offsets.start),
            None => (self.covered, end_offset),
        };
        self.entered = self.at.as_ref().map(|span| span.offsets.start);
        scanner.seek(position);
        *next_offset = offset;
        Ok(self.at.is_some())
    }

    fn is_expected(&mut self, header: &BlockHeader) -> bool {
        let expected = self.entered.take();
        let sound = expected.is_none_or(|offset| header.first_offset == offset);
        if !sound {
            self.entered = expected;
        }
        sound
    }

    fn reached(&self, next_offset: u64) -> u64 {
        if self.entered.is_some() { self.reached } else { next_offset }
    }
}
