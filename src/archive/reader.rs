//! Reading an archive, also while a daemon writes it: no lock is taken, every whole block is shown.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::{list_segments, segment_name};
use super::format::{BlockHeader, BlockKind, FrameIter, SEGMENT_HEADER_BYTES, VERSION};
use super::scan::{Head, Scanner, Step};
use super::storage::{DiskStorage, Storage, StorageError};
use crate::frame::{Frame, Selection};

/// Which frames to read. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this offset on.
    pub from_offset: u64,
    /// Below this offset.
    pub to_offset: Option<u64>,
    /// Received at this time or later, unix nanoseconds.
    pub from_received_ns: Option<i64>,
    /// Received before this time, unix nanoseconds.
    pub to_received_ns: Option<i64>,
    /// Of these sources, lanes and kinds.
    pub selection: Selection,
    /// At most this many frames.
    pub limit: Option<u64>,
}

impl Filter {
    fn takes(&self, frame: &Frame) -> bool {
        self.from_received_ns.is_none_or(|from| frame.received_ns >= from)
            && self.to_received_ns.is_none_or(|to| frame.received_ns < to)
            && self.selection.takes(frame)
    }
}

/// A frame of the log.
#[derive(Clone, Debug)]
pub struct StoredFrame {
    /// Its place in the log.
    pub offset: u64,
    /// The frame; its payload is a slice of the block.
    pub frame: Frame,
}

/// Bytes of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub segment: PathBuf,
    /// Where in the file.
    pub bytes: Range<u64>,
    /// Offsets of the frames lost; empty when the damage hit none.
    pub offsets: Range<u64>,
}

/// What a [`Reader`] comes upon.
#[derive(Clone, Debug)]
pub enum Item {
    /// A frame.
    Frame(StoredFrame),
    /// Damage; reading goes on behind it.
    Damage(Damage),
    /// Offsets that were asked for and that retention has removed; reading goes on behind them.
    Expired(Range<u64>),
}

/// Why reading ends early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A segment of another version of the format.
    #[error("segment {path} has format version {found}, this program knows {VERSION}", path = path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
}

/// Reads a log in the order of its offsets, up to the last whole block.
///
/// At the end it yields `None`; asked again later, it goes on with what was written since.
pub struct Reader {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    filter: Filter,
    yielded: u64,
    segment: Option<Open>,
    /// Offset of the next frame of the log.
    next_offset: u64,
    frames: Option<FrameIter>,
    damage: Option<Range<u64>>,
    ready: Option<Damage>,
}

struct Open {
    base: u64,
    scanner: Scanner,
    /// Base of the segment behind, once there is one: from there on this one is superseded.
    end_offset: Option<u64>,
    /// Whether its end was reached after the segment behind was seen.
    ended: bool,
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
        let mut reader = Self {
            storage,
            dir: dir.to_owned(),
            filter,
            yielded: 0,
            segment: None,
            next_offset: 0,
            frames: None,
            damage: None,
            ready: None,
        };
        reader.enter_first()?;
        Ok(reader)
    }

    /// Offset behind the last frame come upon, filtered out or not.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Moves the end: reading goes on up to there. Has no effect on what was passed over already.
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
            Step::End(position) => Ok(open.scanner.content_end(position)? - position),
            Step::Block(..) | Step::Damage(_) => Ok(0),
        }
    }

    fn list(&self) -> Result<Vec<u64>, StorageError> {
        list_segments(&*self.storage, &self.dir)
    }

    /// Goes to the segment of the first offset asked for; `false` while there is none at all.
    fn enter_first(&mut self) -> Result<bool, ReadError> {
        let bases = self.list()?;
        let from = self.filter.from_offset;
        let start = bases.partition_point(|base| *base <= from).max(1) - 1;
        match bases.get(start) {
            Some(base) => self.enter(*base).map(|()| true),
            None => Ok(false),
        }
    }

    /// Goes to the segment `base`, or behind it if it is gone.
    fn enter(&mut self, base: u64) -> Result<(), ReadError> {
        let mut base = base;
        let scanner = loop {
            let path = self.dir.join(segment_name(base));
            match Scanner::open(&*self.storage, &path) {
                // Retention took it since the directory was listed; the next is the oldest now.
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                    let bases = self.list()?;
                    let Some(next) = bases.into_iter().find(|next| *next > base) else {
                        return Err(error.into());
                    };
                    base = next;
                    self.next_offset = self.next_offset.max(base);
                }
                result => break result?,
            }
        };
        match scanner.head() {
            Head::Sound(_) => {}
            Head::Damaged => {
                self.ready = Some(Damage {
                    segment: scanner.path().to_owned(),
                    bytes: 0..SEGMENT_HEADER_BYTES,
                    offsets: base..base,
                });
            }
            Head::Version(found) => {
                let path = scanner.path().to_owned();
                return Err(ReadError::Version { path, found });
            }
        }
        self.next_offset = self.next_offset.max(base);
        let end_offset = self.list()?.into_iter().find(|next| *next > base);
        self.segment = Some(Open { base, scanner, end_offset, ended: false });
        Ok(())
    }

    /// Reads on to the next item; `None` at the end of what is there.
    fn advance(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            if let Some(damage) = self.ready.take() {
                return Ok(Some(Item::Damage(damage)));
            }
            if let Some(frame) = self.next_frame() {
                return Ok(Some(Item::Frame(frame)));
            }
            let at_end = |to: &u64| self.next_offset >= *to;
            if self.ready.is_none() && self.filter.to_offset.as_ref().is_some_and(at_end) {
                return Ok(None);
            }
            let Some(open) = &mut self.segment else {
                if self.enter_first()? {
                    continue;
                }
                return Ok(None);
            };
            match open.scanner.next()? {
                Step::Block(header, body) => self.block(&header, body),
                Step::Damage(bytes) => self.damage = Some(bytes),
                Step::End(position) => {
                    if !self.leave(position)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn next_frame(&mut self) -> Option<StoredFrame> {
        while let Some(frame) = self.frames.as_mut()?.next() {
            let Some(frame) = frame else {
                self.ready = self.missing(0..0, self.next_offset..self.next_offset);
                break;
            };
            let offset = self.next_offset;
            self.next_offset += 1;
            let wanted = offset >= self.filter.from_offset
                && self.filter.to_offset.is_none_or(|to| offset < to)
                && self.filter.takes(&frame);
            if wanted {
                return Some(StoredFrame { offset, frame });
            }
        }
        self.frames = None;
        None
    }

    fn block(&mut self, header: &BlockHeader, body: bytes::Bytes) {
        let superseded = |open: &Open| open.end_offset.is_some_and(|end| header.first_offset >= end);
        let damage = self.damage.take();
        if self.segment.as_ref().is_some_and(superseded) && header.kind == BlockKind::Frames {
            return;
        }
        let lost = self.next_offset..header.first_offset.max(self.next_offset);
        if damage.is_some() || !lost.is_empty() {
            let position = header.position;
            self.ready = self.missing(damage.unwrap_or(position..position), lost.clone());
            self.next_offset = lost.end;
        }
        // A block below what was read already would be a second truth about the same offsets.
        if header.kind == BlockKind::Frames && header.first_offset == self.next_offset {
            self.frames = FrameIter::new(header, body);
            if self.frames.is_none() {
                let lost = header.first_offset..header.next_offset();
                self.ready = self.missing(header.position..header.end(), lost);
                self.next_offset = header.next_offset();
            }
        }
    }

    /// What to report: the part of it that was asked for, if there is any.
    fn missing(&self, bytes: Range<u64>, offsets: Range<u64>) -> Option<Damage> {
        let asked = self.filter.from_offset..self.filter.to_offset.unwrap_or(u64::MAX);
        let start = offsets.start.max(asked.start);
        let clipped = start..offsets.end.min(asked.end);
        // Damage without frames lies between two offsets: it belongs to the one behind it.
        let wanted = if offsets.is_empty() { asked.contains(&offsets.start) } else { !clipped.is_empty() };
        let segment = self.segment.as_ref()?.scanner.path().to_owned();
        let offsets = if offsets.is_empty() { offsets } else { clipped };
        wanted.then_some(Damage { segment, bytes, offsets })
    }

    /// Base of the open segment if its name belongs to another file now: recovery wrote it anew.
    fn replaced(&self) -> Result<Option<u64>, StorageError> {
        let Some(open) = &self.segment else {
            return Ok(None);
        };
        match Scanner::open(&*self.storage, open.scanner.path()) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            named => Ok((named?.head() != open.scanner.head()).then_some(open.base)),
        }
    }

    /// Goes from the end of one segment to the next; `false` when there is none yet.
    fn leave(&mut self, position: u64) -> Result<bool, ReadError> {
        if let Some(base) = self.replaced()? {
            self.enter(base)?;
            return Ok(true);
        }
        let bases = self.list()?;
        let Some(open) = &mut self.segment else {
            return Ok(false);
        };
        let Some(next) = bases.into_iter().find(|base| *base > open.base) else {
            return Ok(false);
        };
        if !open.ended {
            // Its last blocks may have been written since it was looked at, and before the next was begun.
            open.end_offset = Some(next);
            open.ended = true;
            return Ok(true);
        }
        if self.next_offset < next {
            let end = open.scanner.content_end(position)?;
            self.ready = self.missing(position..end, self.next_offset..next);
        }
        // A restart may have moved blocks behind `next` that were already read here.
        self.next_offset = self.next_offset.max(next);
        let ready = self.ready.take();
        self.enter(next)?;
        self.ready = ready.or(self.ready.take());
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.filter.limit.is_some_and(|limit| self.yielded >= limit) {
            return None;
        }
        let item = self.advance().transpose();
        if let Some(Ok(Item::Frame(_))) = &item {
            self.yielded += 1;
        }
        item
    }
}
