//! The space for the next block: allocation ahead of need, the reserve, and the gate that follows from both.
//!
//! The gate is a number, the routine limit. The fan-in sums [`log_bytes_max`](crate::log_bytes_max) over every frame
//! that it passes. It passes a routine frame only while the sum stays within the limit. The limit is that sum over all
//! written frames plus the space that routine may still use, so every frame that has passed fits.
//!
//! While the reserve exists, routine may use all space allocated in the current segment. When the current segment is
//! full, the reserve becomes the next segment. If no new reserve can be allocated then, the limit does not rise. The
//! space that is left is for emergencies and for frames that have already passed.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Config, HOLES_MAX, Limits};
use crate::format::{BLOCK_HEADER_BYTES, BlockEncoder, BlockKind};
use crate::log::positions::PositionTable;
use crate::log::segment::{BlockContent, Segment};
use crate::log::shared::Shared;
use crate::read::scan::ScanStep;
use crate::storage::dir::Dir;
use crate::storage::log_file::LogFile;
use crate::storage::{Access, StorageError};

/// Smallest step of growth, in bytes, that is tried when the disk refuses larger ones.
const GROW_BYTES_MIN: u64 = 64 << 10;

/// Opens the reserve that an earlier run left, if nothing is written in it. Otherwise removes it. Removes a symbolic
/// link, because the daemon writes no new segment in another directory.
pub(crate) fn adopt_reserve(dir: &Dir) -> Result<Option<LogFile>, StorageError> {
    let path = dir.reserve();
    if dir.storage.is_link(&path).unwrap_or(false) {
        tracing::warn!(path = %path.display(), "the reserve is a symbolic link; the link is removed");
        dir.remove(&path)?;
        return Ok(None);
    }
    let scanner = match crate::read::scan::Scanner::open(&*dir.storage, &path) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    // A crash while the next segment begins leaves bytes in the reserve. They must not look like a torn tail later.
    if scanner.content_end(0)? > 0 {
        dir.remove(&path)?;
        return Ok(None);
    }
    dir.open_log(&path, Access::ReadWrite, 0).map(Some)
}

/// What the archive has no space for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The current segment cannot grow. The gate closes when the segment is full.
    Growth,
    /// There is no reserve: the gate is closed.
    Reserve,
    /// There is no reserve, because no file can be opened for it: the gate is closed.
    Files,
}

/// The current segment and the reserve behind it.
pub(crate) struct Space {
    /// The archive's directory.
    dir: Dir,
    /// Sizes that follow from the configuration.
    limits: Limits,
    /// Size in bytes at which a segment is sealed.
    segment_bytes: u64,
    /// Size in bytes of the reserve.
    reserve_bytes: u64,
    /// The id that each new segment gets in its header.
    log_id: u64,
    /// The segment being written.
    pub(crate) current: Segment,
    /// The file of the reserve, with its space allocated. `None` while there is no space or no file for one.
    reserve: Option<LogFile>,
    /// Takes the indexes of sealed segments.
    shared: Arc<Shared>,
    /// Whether the file system cannot allocate, so that its free space is trusted instead.
    estimating: bool,
    /// Whether the file system refused space when last asked.
    refused: bool,
    /// The error of the last try to open a file, if too many files were open.
    no_files: Option<String>,
    /// Segments begun since the start.
    pub(crate) rotations: u64,
}

impl Space {
    pub(crate) fn new(dir: Dir, config: &Config, log_id: u64, current: Segment, shared: Arc<Shared>) -> Self {
        Self {
            dir,
            limits: Limits::new(config),
            segment_bytes: config.segment_bytes,
            reserve_bytes: config.reserve_bytes,
            log_id,
            current,
            reserve: None,
            shared,
            estimating: false,
            refused: false,
            no_files: None,
            rotations: 0,
        }
    }

    /// Bytes that routine may still use; `None` if the gate is closed. `attested` says whether the last commit is
    /// attested: if not, the room of one attestation is kept back.
    pub(crate) fn routine_room(&self, attested: bool) -> Option<u64> {
        self.reserve.as_ref()?;
        let attestation = if attested { 0 } else { BLOCK_HEADER_BYTES };
        Some(self.current.room().saturating_sub(attestation))
    }

    /// The shortage for which routine waits or will soon wait; `None` if there is none.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let of = match (&self.reserve, &self.no_files) {
            (Some(_), _) => Shortage::Growth,
            (None, None) => Shortage::Reserve,
            (None, Some(_)) => Shortage::Files,
        };
        self.refused.then_some(of)
    }

    /// A text for operators about a shortage, with a remedy.
    pub(crate) fn explain(&self, shortage: Shortage) -> String {
        let state = match shortage {
            Shortage::Growth => "the reserve is whole",
            Shortage::Reserve | Shortage::Files => {
                "the reserve is in use, routine frames wait at their senders and emergencies go on"
            }
        };
        if let (Shortage::Files, Some(error)) = (shortage, &self.no_files) {
            return format!(
                "no file can be opened for the archive: {error}; {state}; close connections, or raise the limit \
                 (LimitNOFILE in the systemd unit, fs.file-max where the whole host has too many), and writing goes on \
                 by itself"
            );
        }
        let free = self.dir.free_bytes().unwrap_or(0);
        format!(
            "no space for the archive in {}: {free} bytes free, {} needed for a new reserve; {state}; free space \
             on this file system, and writing goes on by itself",
            self.dir.path.display(),
            self.reserve_bytes,
        )
    }

    /// Records that the file system did not keep its promise of space.
    pub(crate) fn revoke(&mut self) {
        self.refused = true;
        self.current.allocated = self.current.position;
    }

    /// Restores the reserve and keeps space allocated behind the last block. Begins the next segment if the current one
    /// is full: it begins with the positions in `table`, and `offset`, that of the next frame, is its base.
    pub(crate) fn allocate_ahead(&mut self, table: &PositionTable, offset: u64) -> Result<(), StorageError> {
        (self.refused, self.no_files) = (false, None);
        self.refill()?;
        if self.current.room() >= self.limits.ahead_bytes || self.reserve.is_none() {
            return Ok(());
        }
        if self.current.allocated < self.segment_bytes {
            let to = (self.current.allocated + self.limits.grow_bytes).min(self.segment_bytes);
            self.grow(to)?;
        }
        if self.current.room() < self.limits.ahead_bytes
            && self.current.allocated >= self.segment_bytes
            && self.rotate(table, offset)?
        {
            self.refill()?;
        }
        Ok(())
    }

    /// Makes sure that `block` fits at the current position, and pads the block as the file needs it. The frames of the
    /// block have passed the gate or are urgent. For `table` and `offset` see [`Self::allocate_ahead`].
    ///
    /// Returns `false` if there is no space.
    pub(crate) fn make_room_for(
        &mut self,
        block: &mut BlockEncoder,
        table: &PositionTable,
        offset: u64,
    ) -> Result<bool, StorageError> {
        let len = block.content_len();
        if !self.make_room(len, table, offset)? {
            return Ok(false);
        }
        // Each frame counted as if it had a block to itself. Frames that share a block take less, and the difference
        // covers the padding. So the gate need not count the padding.
        let most = block.log_bytes_max().min(self.current.room());
        let padded_len = self.current.padded_len(len).filter(|padded| padded + BLOCK_HEADER_BYTES <= most);
        block.pad(padded_len.unwrap_or(len));
        Ok(true)
    }

    /// Makes sure that a block of `bytes` fits at the current position.
    ///
    /// Returns `false` if there is no space.
    fn make_room(&mut self, bytes: u64, table: &PositionTable, offset: u64) -> Result<bool, StorageError> {
        let needed = bytes + BLOCK_HEADER_BYTES;
        if self.current.room() >= needed {
            return Ok(true);
        }
        let end = self.current.position + needed;
        if end <= self.segment_bytes && self.reserve.is_some() && self.grow_to(end)? {
            return Ok(true);
        }
        if self.rotate(table, offset)? {
            self.refill()?;
        }
        // Without a reserve the segment may exceed its size, so that the block need not wait.
        let end = self.current.position + needed;
        let fits = self.current.room() >= needed || self.grow_to(end)?;
        self.refused |= !fits;
        Ok(fits)
    }

    /// Grows the current segment to at least `end`, by a whole step if the disk allows it. Returns whether it reaches
    /// `end`.
    fn grow_to(&mut self, end: u64) -> Result<bool, StorageError> {
        let step = self.current.allocated + self.limits.grow_bytes;
        self.grow(end.max(step.min(self.segment_bytes)))?;
        if self.current.allocated < end && self.allocate_current(end)? {
            self.current.allocated = end;
        }
        Ok(self.current.allocated >= end)
    }

    /// Grows the current segment to `to`, or as far as the disk allows.
    fn grow(&mut self, to: u64) -> Result<(), StorageError> {
        let mut step = to.saturating_sub(self.current.allocated);
        while step > 0 {
            let to = self.current.allocated + step;
            if self.allocate_current(to)? {
                self.current.allocated = to;
                return Ok(());
            }
            self.refused = true;
            if step <= GROW_BYTES_MIN {
                return Ok(());
            }
            step = (step / 2).max(GROW_BYTES_MIN);
        }
        Ok(())
    }

    fn allocate_current(&mut self, to: u64) -> Result<bool, StorageError> {
        let from = self.current.allocated;
        let promised = self.current.room() + self.reserve.as_ref().map_or(0, |_| self.reserve_bytes);
        // The last page is written as a whole, so it is allocated as a whole. The count stays in bytes: the rest of a
        // page that was allocated for an emergency must not open the gate.
        let whole = to.next_multiple_of(self.current.file.unit());
        let result = self.current.file.file().allocate(from, whole);
        let path = self.current.path.clone();
        self.allocated(result, to - from, promised, path)
    }

    /// Creates the reserve if there is none. If the disk has no space, there is still no reserve.
    fn refill(&mut self) -> Result<(), StorageError> {
        if self.reserve.is_some() {
            return Ok(());
        }
        let path = self.dir.reserve();
        let file = match self.open_reserve() {
            Err(error) if error.is_no_space() || self.is_too_many_files(&error) => {
                self.refused = true;
                return Ok(());
            }
            result => result?,
        };
        let bytes = self.reserve_bytes.next_multiple_of(file.unit());
        let result = file.file().allocate(0, bytes);
        let promised = self.current.room();
        if self.allocated(result, bytes, promised, path)? {
            self.reserve = Some(file);
            return Ok(());
        }
        self.refused = true;
        drop(file);
        // A partial reserve would take space that waiting emergencies need.
        self.dir.remove(&self.dir.reserve())
    }

    fn open_reserve(&self) -> Result<LogFile, StorageError> {
        match adopt_reserve(&self.dir)? {
            Some(file) => Ok(file),
            None => self.dir.open_log(&self.dir.reserve(), Access::Create, 0),
        }
    }

    /// Returns whether `error` says that too many files are open, and records it.
    fn is_too_many_files(&mut self, error: &StorageError) -> bool {
        let is_too_many_files = error.is_too_many_files();
        if is_too_many_files {
            self.no_files = Some(error.to_string());
        }
        is_too_many_files
    }

    /// Returns whether an allocation of `bytes` with this `result` succeeded. `promised` bytes are promised already.
    fn allocated(
        &mut self,
        result: std::io::Result<()>,
        bytes: u64,
        promised: u64,
        path: PathBuf,
    ) -> Result<bool, StorageError> {
        let Err(source) = result else {
            return Ok(true);
        };
        let op = "allocate space in";
        let error = StorageError { op, path, source };
        match error.source.kind() {
            std::io::ErrorKind::Unsupported => {
                if !self.estimating {
                    self.estimating = true;
                    tracing::warn!(
                        dir = %self.dir.path.display(),
                        "this file system cannot allocate space in advance; the archive relies on its free space, \
                         which other programs can use up"
                    );
                }
                Ok(self.dir.free_bytes()? >= bytes + promised)
            }
            _ if error.is_no_space() => Ok(false),
            _ => Err(error),
        }
    }

    /// Makes the reserve the current segment, which begins at `offset`. Everything below `offset` must be durable.
    ///
    /// Returns `false` if that is not possible. The space of the reserve is then free for the current segment.
    fn rotate(&mut self, table: &PositionTable, offset: u64) -> Result<bool, StorageError> {
        if self.current.base == offset {
            return Ok(false);
        }
        assert!(self.current.base < offset, "the next segment would begin below the base of this one");
        let Some(next) = self.begin(table, offset, &[])? else {
            return Ok(false);
        };
        self.current.trim()?;
        tracing::debug!(
            sealed = %self.current.path.display(),
            bytes = self.current.position,
            next = %next.path.display(),
            "segment sealed"
        );
        let sealed = std::mem::replace(&mut self.current, next);
        if let Some(index) = sealed.into_index() {
            self.shared.handover.put_index(index);
        }
        self.rotations += 1;
        Ok(true)
    }

    /// Begins a segment at `offset` with the positions of `table`. These positions take precedence over all frames
    /// below `offset`, which must be durable.
    ///
    /// A current segment without frames is replaced in one step. Returns `false` if there is no space.
    pub(crate) fn begin_with_positions(
        &mut self,
        table: &PositionTable,
        offset: u64,
    ) -> Result<bool, StorageError> {
        let promised = self.current.room();
        let is_begun =
            if self.current.base == offset { self.replace(table)? } else { self.rotate(table, offset)? };
        if is_begun {
            // Frames that have passed the gate need the room that there was. The space that the old segment frees is
            // for them.
            self.grow(self.current.position + promised)?;
        }
        Ok(is_begun)
    }

    /// Replaces the current segment, which has no frames, by one with the positions of `table`.
    fn replace(&mut self, table: &PositionTable) -> Result<bool, StorageError> {
        let holes = match self.holes() {
            Err(error) if error.is_too_many_files() => return Ok(false),
            result => result?,
        };
        let Some(next) = self.begin(table, self.current.base, &holes)? else {
            return Ok(false);
        };
        tracing::debug!(segment = %next.path.display(), "segment without frames replaced");
        self.current = next;
        Ok(true)
    }

    /// The bodies of the hole blocks in the current segment.
    fn holes(&self) -> Result<Vec<Bytes>, StorageError> {
        let mut scanner = self.dir.scan(self.current.base)?;
        let mut holes = Vec::new();
        while scanner.position() < self.current.position && holes.len() < HOLES_MAX {
            match scanner.next()? {
                ScanStep::Block(header, body) if header.kind == BlockKind::Hole => holes.push(body),
                ScanStep::Block(..) | ScanStep::Damage(_) => {}
                ScanStep::End(_) => break,
            }
        }
        Ok(holes)
    }

    /// Makes the reserve a segment that begins at `offset`, durable under its name.
    ///
    /// Returns `None` if that is not possible. The space of the reserve is then free.
    fn begin(
        &mut self,
        table: &PositionTable,
        offset: u64,
        holes: &[Bytes],
    ) -> Result<Option<Segment>, StorageError> {
        let Some(file) = self.reserve.take() else {
            return Ok(None);
        };
        let path = self.dir.reserve();
        let begun = Segment::begin(path, file, self.log_id, offset, table).and_then(|mut next| {
            let mut contents = holes.iter().map(|hole| BlockContent::plain(BlockKind::Hole, offset, hole));
            contents.try_for_each(|content| next.push(&content))?;
            Ok(next)
        });
        let mut next = match begun {
            Err(error) if error.is_no_space() => return self.give_up_reserve(),
            result => result?,
        };
        match next.install(&self.dir) {
            // The directory itself may need a block on the disk. Any other failure is final, above all a failed sync.
            Err(error) if error.op == "rename" && error.is_no_space() => {
                drop(next);
                return self.give_up_reserve();
            }
            result => result?,
        }
        if self.estimating {
            next.allocated = next.position.max(self.reserve_bytes);
        }
        Ok(Some(next))
    }

    /// Removes a reserve that cannot become a segment, because emergencies may wait for its space.
    fn give_up_reserve(&mut self) -> Result<Option<Segment>, StorageError> {
        self.refused = true;
        self.dir.remove(&self.dir.reserve())?;
        Ok(None)
    }
}
