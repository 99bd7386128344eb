//! Reads an archive, also while a daemon writes it. The reader takes no lock and sees every whole block.
//!
//! The reader uses the index of a sealed segment where that saves reading, see [`index`](crate::read::index). It checks
//! everything that an index says. If something does not fit, the reader walks the whole segment instead and continues
//! at the offset reached.

mod filter;
mod gaps;
mod holes;
mod item;
mod open_segment;

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::names::segment_name;
use crate::format::{BlockHeader, BlockKind, FrameIter, HoleRecord, SEGMENT_HEADER_BYTES};
use crate::read::scan::{HeaderState, ScanStep, Scanner};
use crate::read::segments::misnamed;
use crate::storage::dir::list_segments;
use crate::storage::{DiskStorage, Storage, StorageError};
use frame::FrameView;
use gaps::{Cause, Gaps};
use open_segment::{IndexMismatch, OpenSegment, Strategy};

pub use filter::Filter;
pub use item::{Damage, Item, Misnamed, ReadError, StoredFrame, Visited};

/// Reads a log in the order of its offsets, up to the last whole block.
///
/// At the end it yields `None`. A later call continues with the blocks written since.
///
/// The reader reports damage where requested frames may be lost. If an index shows that a part of a segment holds no
/// requested frame, the reader neither reads nor checks that part.
pub struct Reader {
    /// The file system.
    storage: Arc<dyn Storage>,
    /// The archive's directory.
    dir: PathBuf,
    /// What is requested. [`Self::set_to_offset`] changes its end.
    filter: Filter,
    /// Frames returned so far, for the limit of the filter.
    yielded: u64,
    /// The id of the log, once a segment header has given it.
    log_id: Option<u64>,
    /// The open segment; `None` while the directory has none.
    segment: Option<OpenSegment>,
    /// Offset of the next frame of the log.
    next_offset: u64,
    /// The reader returns nothing below this offset. When it stops using an index, it walks the segment from its first
    /// block and passes frames and gaps that it has already returned.
    floor: u64,
    /// The frames of the current block that are not yet returned. `None` between two blocks.
    frames: Option<FrameIter>,
    /// Damaged bytes in front of the next block. That block shows which offsets are missing.
    damage: Option<Range<u64>>,
    /// What is missing and not yet returned. It goes before the frames that follow.
    gaps: Gaps,
    /// Segments that were skipped because of their names.
    misnamed: Vec<Misnamed>,
}

impl Reader {
    /// Reads the archive directory `dir` of this host.
    ///
    /// # Errors
    /// [`ReadError`] when the directory or the first segment cannot be read.
    pub fn open(dir: &Path, filter: Filter) -> Result<Self, ReadError> {
        Self::open_on(Arc::new(DiskStorage), dir, filter)
    }

    /// As [`Self::open`], on another storage.
    ///
    /// # Errors
    /// [`ReadError`] when the directory or the first segment cannot be read.
    pub fn open_on(storage: Arc<dyn Storage>, dir: &Path, filter: Filter) -> Result<Self, ReadError> {
        Self::open_log(storage, dir, filter, None)
    }

    /// As [`Self::open_on`], for segments of the log `log_id` only. `None` means the log of the first segment read.
    ///
    /// # Errors
    /// [`ReadError`] when the directory or the first segment cannot be read.
    pub fn open_log(
        storage: Arc<dyn Storage>,
        dir: &Path,
        filter: Filter,
        log_id: Option<u64>,
    ) -> Result<Self, ReadError> {
        let mut reader = Self {
            storage,
            dir: dir.to_owned(),
            filter,
            yielded: 0,
            log_id,
            segment: None,
            next_offset: 0,
            floor: 0,
            frames: None,
            damage: None,
            gaps: Gaps::default(),
            misnamed: Vec::new(),
        };
        reader.enter_first()?;
        Ok(reader)
    }

    /// Offset behind the last frame reached, including frames that the filter does not take.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next_offset.max(self.floor)
    }

    /// Sets the end of the requested offsets. `None` means no end.
    ///
    /// After a higher end is set, reading continues where it stopped, even after `None`. A caller can follow a
    /// watermark this way. No item reaches beyond the end: a gap is cut there, and its rest comes after a higher end is
    /// set. With an end, the caller promises that all frames below it exist, so the reader searches for them. Without
    /// an end, a reader at the end of the log only looks whether the next block is there.
    pub fn set_to_offset(&mut self, to_offset: Option<u64>) {
        self.filter.to_offset = to_offset;
    }

    /// Bytes behind the last whole block that are not zero: a torn tail, or a block that is being written.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot be read.
    pub fn torn_bytes(&mut self) -> Result<u64, ReadError> {
        let Some(open) = &mut self.segment else {
            return Ok(0);
        };
        match open.scanner.next()? {
            ScanStep::End(position) => Ok(open.scanner.content_end(position)? - position),
            ScanStep::Block(..) | ScanStep::Damage(_) => Ok(0),
        }
    }

    /// The segments reached so far whose headers contradict their names. The reader skipped them.
    #[must_use]
    pub fn misnamed(&self) -> &[Misnamed] {
        &self.misnamed
    }

    fn list(&self) -> Result<Vec<u64>, StorageError> {
        list_segments(&*self.storage, &self.dir)
    }

    /// The first of `bases` whose header does not contradict its name. The segments before it are recorded as misnamed.
    fn skip_misnamed(&mut self, bases: impl IntoIterator<Item = u64>) -> Option<u64> {
        bases.into_iter().find(|base| {
            let Some(header_offset) = misnamed(&*self.storage, &self.dir, *base) else {
                return true;
            };
            if self.misnamed.iter().all(|known| known.name_offset != *base) {
                let segment = self.dir.join(segment_name(*base));
                self.misnamed.push(Misnamed { segment, name_offset: *base, header_offset });
            }
            false
        })
    }

    /// The next segment after `base` in the listing `bases`.
    fn next_segment(&mut self, bases: &[u64], base: u64) -> Option<u64> {
        self.skip_misnamed(bases.iter().copied().filter(|next| *next > base))
    }

    /// Why `offsets` are missing: damage if a misnamed segment should hold some of them by its name, else `otherwise`.
    fn cause_of(&self, offsets: &Range<u64>, otherwise: Cause) -> Cause {
        let after = self.segment.as_ref().map(|open| open.base);
        let is_there = |known: &&Misnamed| {
            known.name_offset < offsets.end && after.is_none_or(|after| known.name_offset > after)
        };
        match self.misnamed.iter().find(is_there) {
            Some(Misnamed { segment, .. }) => {
                Cause::Damage { segment: segment.clone(), bytes: 0..SEGMENT_HEADER_BYTES, recorded: false }
            }
            None => otherwise,
        }
    }

    /// The requested offsets that are not yet done.
    fn requested(&self) -> Range<u64> {
        self.filter.from_offset.max(self.floor)..self.filter.to_offset.unwrap_or(u64::MAX)
    }

    /// Opens the segment of the first requested offset. Returns `false` if there is no segment.
    fn enter_first(&mut self) -> Result<bool, ReadError> {
        let bases = self.list()?;
        let from = self.filter.from_offset;
        let (below, above) = bases.split_at(bases.partition_point(|base| *base <= from));
        let base = self.skip_misnamed(below.iter().rev().copied());
        let Some(base) = base.or_else(|| self.skip_misnamed(above.iter().copied())) else {
            return Ok(false);
        };
        self.gaps.push(self.cause_of(&(from..base), Cause::Expired), from..base, from);
        self.enter(base).map(|()| true)
    }

    /// Opens the segment `base`, or the next one if retention has removed it.
    fn enter(&mut self, base: u64) -> Result<(), ReadError> {
        let mut base = base;
        let scanner = loop {
            let path = self.dir.join(segment_name(base));
            match Scanner::open(&*self.storage, &path) {
                // Retention removed the segment after the directory was listed. The next segment is the oldest.
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                    let bases = self.list()?;
                    let next = self.next_segment(&bases, base);
                    // Retention removes the oldest segments first and no name comes back. If an older segment exists,
                    // retention did not remove this one, and its frames are not expired.
                    let Some(next) = next.filter(|_| bases[0] > base) else {
                        return Err(error.into());
                    };
                    self.expired(self.next_offset.max(base)..next);
                    base = next;
                }
                result => break result?,
            }
        };
        if let HeaderState::Version(found) = scanner.header() {
            let path = scanner.path().to_owned();
            return Err(ReadError::Version { path, found });
        }
        if let Some(header) = scanner.sound_header() {
            let (found, expected) = (header.log_id, *self.log_id.get_or_insert(header.log_id));
            if found != expected {
                return Err(ReadError::Mixed { path: scanner.path().to_owned(), found, expected });
            }
        }
        self.next_offset = self.next_offset.max(base);
        let mut open = OpenSegment::new(base, scanner);
        let bases = self.list()?;
        if let Some(next) = self.next_segment(&bases, base) {
            open.see_next(next, bases.contains(&base));
        }
        // If this segment is reopened after recovery has rewritten it, `next_offset` lies behind the frames that were
        // returned before.
        let from = self.requested().start.max(self.next_offset);
        open.choose_strategy(&*self.storage, &self.dir, &self.filter, from);
        // An index leads to the start of a range of blocks, which may lie before `next_offset`. The floor keeps the
        // reader from returning these frames a second time. Without an index, the reader uses the headers of the blocks
        // to skip those in front.
        if !matches!(open.strategy, Strategy::Whole) {
            self.floor = self.floor.max(self.next_offset);
        } else if from > self.next_offset && open.scanner.sound_header().is_some() {
            self.next_offset = open.scanner.pass_over(from)?.unwrap_or(0).max(self.next_offset);
        }
        self.segment = Some(open);
        if base >= self.requested().start {
            self.report_header(base);
        }
        Ok(())
    }

    /// Records that retention has removed `offsets`.
    fn expired(&mut self, offsets: Range<u64>) {
        let from = self.requested().start;
        self.next_offset = self.next_offset.max(offsets.end);
        self.gaps.push(self.cause_of(&offsets, Cause::Expired), offsets, from);
    }

    /// Reads up to the next item. Returns `None` at the end of the log.
    fn advance(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            if let Some(gap) = self.gaps.take(self.requested().end) {
                return Ok(Some(gap));
            }
            if let Some(frame) = self.next_frame() {
                return Ok(Some(Item::Frame(frame)));
            }
            if !self.read_on()? {
                return Ok(self.gaps.take(self.requested().end));
            }
        }
    }

    /// The next requested frame of the current block, or of the extents that the index has selected (see
    /// [`index`](crate::read::index)).
    fn next_frame(&mut self) -> Option<StoredFrame> {
        loop {
            let stored = if self.frames.is_some() { self.next_of_block()? } else { self.next_of_extents()? };
            if self.requested().contains(&stored.offset) && self.filter.takes(&(&stored.frame).into()) {
                return Some(stored);
            }
        }
    }

    /// Reads on and calls `visit` with a view of every requested frame. Stops when `visit` breaks or when something
    /// other than a frame comes.
    ///
    /// # Errors
    /// [`ReadError`] when the directory or a segment cannot be read.
    pub fn visit(
        &mut self,
        mut visit: impl FnMut(u64, &FrameView<'_>) -> ControlFlow<()>,
    ) -> Result<Visited, ReadError> {
        loop {
            if self.is_limit_reached() {
                return Ok(Visited::End);
            }
            if let Some(gap) = self.gaps.take(self.requested().end) {
                return Ok(Visited::Gap(gap));
            }
            if self.frames.is_some() {
                if self.visit_block(&mut visit).is_break() {
                    return Ok(Visited::Enough);
                }
            } else if let Some(stored) = self.next_frame() {
                self.yielded += 1;
                if visit(stored.offset, &(&stored.frame).into()).is_break() {
                    return Ok(Visited::Enough);
                }
                continue;
            }
            if !self.read_on()? {
                return Ok(self.gaps.take(self.requested().end).map_or(Visited::End, Visited::Gap));
            }
        }
    }

    /// Calls `visit` with the rest of the current block. Breaks when `visit` breaks, and at the limit.
    fn visit_block(
        &mut self,
        visit: &mut impl FnMut(u64, &FrameView<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let requested = self.requested();
        while let Some(frames) = &mut self.frames
            && self.next_offset < requested.end
        {
            match frames.next_view() {
                Some(Some(frame)) => {
                    let offset = self.next_offset;
                    self.next_offset += 1;
                    if offset >= requested.start && self.filter.takes(&frame) {
                        self.yielded += 1;
                        visit(offset, &frame)?;
                        if self.is_limit_reached() {
                            return ControlFlow::Break(());
                        }
                    }
                    continue;
                }
                // See `next_of_block`.
                Some(None) => self.missing(0..0, self.next_offset..self.next_offset, false),
                None => {}
            }
            self.frames = None;
        }
        ControlFlow::Continue(())
    }

    fn is_limit_reached(&self) -> bool {
        self.filter.limit.is_some_and(|limit| self.yielded >= limit)
    }

    /// The next frame of the current block. `None` at the end of the block or of the requested offsets.
    fn next_of_block(&mut self) -> Option<StoredFrame> {
        if self.is_at_end() {
            return None;
        }
        match self.frames.as_mut()?.next() {
            Some(Some(frame)) => {
                let offset = self.next_offset;
                self.next_offset += 1;
                return Some(StoredFrame { offset, frame });
            }
            // The rest of the block is malformed, and its bytes are not known. This reports the damage. The next block,
            // or the end of the segment, shows which offsets are missing.
            Some(None) => self.missing(0..0, self.next_offset..self.next_offset, false),
            None => {}
        }
        self.frames = None;
        None
    }

    /// The next frame of the extents that the index has selected. `None` if the segment is read in another way, or at
    /// the end of the extents.
    fn next_of_extents(&mut self) -> Option<StoredFrame> {
        let to = self.requested().end;
        let open = self.segment.as_mut()?;
        let Strategy::Extents { merge, covered } = &mut open.strategy else {
            return None;
        };
        let end = open.end_offset?;
        match merge.next(open.scanner.file(), to.min(end)) {
            Ok(Some(stored)) => {
                self.next_offset = stored.offset + 1;
                Some(stored)
            }
            Ok(None) => {
                self.next_offset = self.next_offset.max(to.min(end));
                if to >= end {
                    open.scanner.seek(*covered);
                    open.strategy = Strategy::Whole;
                }
                None
            }
            Err(_) => {
                let reached = self.next_offset;
                self.start_over(&IndexMismatch { reached });
                None
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.next_offset >= self.requested().end
    }

    /// Advances to the next block, gap or segment. Returns `false` at the end.
    fn read_on(&mut self) -> Result<bool, ReadError> {
        if self.is_at_end() {
            return Ok(false);
        }
        // With an end, the caller promises that more frames exist, see `set_to_offset`.
        let more = self.filter.to_offset.is_some();
        let Some(open) = &mut self.segment else {
            return self.enter_first();
        };
        match open.step(&mut self.next_offset, more)? {
            Ok(ScanStep::Block(header, body)) => self.block(&header, body),
            Ok(ScanStep::Damage(bytes)) => self.damage = Some(bytes),
            Ok(ScanStep::End(position)) => return self.leave(position),
            Err(mismatch) => self.start_over(&mismatch),
        }
        Ok(true)
    }

    /// Stops using the index and walks the whole segment. Yields nothing below the offset reached.
    fn start_over(&mut self, mismatch: &IndexMismatch) {
        if let Some(open) = &mut self.segment {
            open.start_over();
            self.next_offset = open.base;
            self.floor = self.floor.max(mismatch.reached);
        }
    }

    /// Takes the next block: reports what is missing in front of it, and makes its frames the current ones.
    fn block(&mut self, header: &BlockHeader, body: bytes::Bytes) {
        // Recovery may have copied the last blocks of this segment into the next one. The copies count.
        let superseded = |open: &OpenSegment| open.end_offset.is_some_and(|end| header.first_offset >= end);
        let damage = self.damage.take();
        if self.segment.as_ref().is_some_and(superseded) && header.kind == BlockKind::Frames {
            return;
        }
        if header.next_offset() > self.requested().start {
            self.report_header(header.first_offset);
        }
        let lost = self.next_offset..header.first_offset.max(self.next_offset);
        if damage.is_some() || !lost.is_empty() {
            let position = header.position;
            self.next_offset = lost.end;
            // A repair leaves only the hole record in the place of lost frames. Recovery leaves the damaged bytes.
            let recorded = damage.is_none() && HoleRecord::explains(header, &body, &lost);
            self.missing(damage.unwrap_or(position..position), lost, recorded);
        }
        // A block below the offset reached is skipped: its offsets were already read from another block.
        if header.kind == BlockKind::Frames && header.first_offset == self.next_offset {
            self.frames = FrameIter::new(header, body);
            if self.frames.is_none() {
                let lost = header.first_offset..header.next_offset();
                self.next_offset = header.next_offset();
                self.missing(header.position..header.end(), lost, false);
            }
        }
    }

    /// Reports a damaged segment header once, before the first requested part of the segment.
    fn report_header(&mut self, offset: u64) {
        if self.segment.as_mut().is_some_and(|open| std::mem::take(&mut open.is_header_damaged)) {
            let offset = offset.max(self.requested().start);
            self.missing(0..SEGMENT_HEADER_BYTES, offset..offset, false);
        }
    }

    /// Records that `offsets` cannot be read. `recorded` says that a hole record is known to cover them.
    fn missing(&mut self, bytes: Range<u64>, offsets: Range<u64>, recorded: bool) {
        let recorded = recorded || self.is_recorded(&offsets);
        if let Some(open) = &self.segment {
            let segment = open.scanner.path().to_owned();
            let from = self.requested().start;
            self.gaps.push(Cause::Damage { segment, bytes, recorded }, offsets, from);
        }
    }

    /// The base of the open segment, if recovery has put another file in its place. The reader still has the old file
    /// open.
    fn replaced(&self) -> Result<Option<u64>, StorageError> {
        let Some(open) = &self.segment else {
            return Ok(None);
        };
        match Scanner::open(&*self.storage, open.scanner.path()) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            named => {
                let head = named?.header();
                // A header that became unreadable meanwhile does not mean another file.
                Ok((head != open.scanner.header() && head != HeaderState::Damaged).then_some(open.base))
            }
        }
    }

    /// Moves from the end of a segment to the next segment. Returns `false` if there is none yet.
    fn leave(&mut self, position: u64) -> Result<bool, ReadError> {
        if let Some(base) = self.replaced()? {
            self.enter(base)?;
            return Ok(true);
        }
        let bases = self.list()?;
        let Some(base) = self.segment.as_ref().map(|open| open.base) else {
            return Ok(false);
        };
        let Some(next) = self.next_segment(&bases, base) else {
            return Ok(false);
        };
        let Some(open) = &mut self.segment else {
            return Ok(false);
        };
        let is_listed = bases.contains(&open.base);
        if !open.ended {
            // The reader is at the end of this segment for the first time since the next segment exists. The last
            // blocks may have been written after the reader looked and before the next segment began. So the reader
            // looks once more.
            open.see_next(next, is_listed);
            open.ended = true;
            return Ok(true);
        }
        // The offset at which this segment must end. If retention has removed this segment from the directory, segments
        // between this one and `next` may be gone too.
        let end = if is_listed { next } else { open.sure_end().unwrap_or(self.next_offset) };
        if self.next_offset < end {
            let bytes = position..open.scanner.content_end(position)?;
            let (lost, from) = (self.next_offset..end, self.requested().start);
            // By its name, a misnamed segment should hold some of these offsets. Then that segment is the damage, and
            // not the bytes at the end of this one.
            let is_behind = self.misnamed.iter().any(|known| lost.contains(&known.name_offset));
            match is_behind.then(|| self.cause_of(&lost, Cause::Expired)) {
                Some(cause) => self.gaps.push(cause, lost, from),
                None => self.missing(bytes, lost, false),
            }
        }
        // Recovery may have moved blocks that were already read here into the segment `next`. So `next_offset` may be
        // higher than `end`.
        self.next_offset = self.next_offset.max(end);
        // Empty unless retention has removed segments between this one and `next`.
        self.expired(self.next_offset..next);
        self.enter(next)?;
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_limit_reached() {
            return None;
        }
        let item = self.advance().transpose();
        if let Some(Ok(Item::Frame(_))) = &item {
            self.yielded += 1;
        }
        item
    }
}
