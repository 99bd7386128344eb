//! The end of the log, where the commit thread writes.

use std::time::{Duration, Instant};

use super::edit_request::PositionEdit;
use super::positions::PositionTable;
use super::published::Summary;
use super::segment::BlockContent;
use super::space::Space;
use crate::format::{BlockEncoder, BlockKind, Durable, OFFSET_MAX};
use crate::storage::StorageError;
use crate::storage::dir::beyond_offsets;

/// Time without a commit after which the commit thread attests the last commit.
const ATTEST_AFTER: Duration = Duration::from_millis(100);
/// Pause before the commit thread retries when the disk is full or no file can be opened.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The end of the log, where the commit thread writes.
pub(crate) struct LogWriter {
    /// The current segment and the reserve.
    pub(super) space: Space,
    /// The durable positions of all streams.
    table: PositionTable,
    /// What the last commit made durable, by origin and lane. Kept for the observer, and reused.
    pub(super) durable: Vec<Durable>,
    /// Offset behind the last durable frame.
    pub(super) next_offset: u64,
    /// Whether a block attests that the last commit is durable.
    attested: bool,
    /// When the last commit ended.
    last_commit: Instant,
    /// Sum of [`log_bytes_max`](crate::log_bytes_max) over all frames written since the start.
    log_bytes_max: u64,
    /// The highest limit so far, because the limit never falls. In bytes, comparable with `log_bytes_max`.
    routine_limit: u64,
    /// No allocation is tried before this time. `None` while there is no shortage.
    retry_at: Option<Instant>,
    /// The offset at which this writer started.
    start_offset: u64,
    /// Frames made durable since the start.
    frames: u64,
}

impl LogWriter {
    pub(crate) fn new(
        space: Space,
        table: PositionTable,
        next_offset: u64,
        attested: bool,
    ) -> Result<Self, StorageError> {
        assert!(space.current.base <= next_offset, "the log ends below the base of its newest segment");
        let mut log = Self {
            space,
            table,
            durable: Vec::new(),
            next_offset,
            attested,
            last_commit: Instant::now(),
            log_bytes_max: 0,
            routine_limit: 0,
            retry_at: Some(Instant::now()),
            start_offset: next_offset,
            frames: 0,
        };
        log.allocate_ahead()?;
        log.attest()?;
        Ok(log)
    }

    /// The result up to here.
    pub(super) fn summary(&self) -> Summary {
        Summary { frames: self.frames, next_offset: self.next_offset }
    }

    /// Returns when the commit thread must wake even if no frame comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let attest_at = (!self.attested).then(|| self.last_commit + ATTEST_AFTER);
        attest_at.into_iter().chain(self.retry_at).min()
    }

    /// Writes the finished block. Returns `false` if there is no space.
    pub(super) fn write(&mut self, block: &mut BlockEncoder) -> Result<bool, StorageError> {
        let offset = self.next_offset;
        // Without this check an offset could wrap. Frames of a later commit would then look older than earlier ones.
        if offset > OFFSET_MAX - block.frame_count() {
            return Err(beyond_offsets(&self.space.current.path));
        }
        if !self.space.make_room_for(block, &self.table, offset)? {
            return Ok(false);
        }
        let current = &mut self.space.current;
        let block = block.seal(current.segment_id, current.position, offset, offset);
        match current.write(block) {
            Err(error) if error.is_no_space() => {
                self.space.revoke();
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// Records that `block`, the last one written, is durable.
    pub(super) fn committed(&mut self, block: &BlockEncoder) {
        self.space.current.written(block.len());
        self.next_offset += block.frame_count();
        self.frames += block.frame_count();
        assert_eq!(self.next_offset, self.start_offset + self.frames, "an offset was skipped or used twice");
        block.durable(&mut self.durable);
        let durable_frames: u64 = self.durable.iter().map(|durable| durable.frames).sum();
        assert_eq!(durable_frames, block.frame_count(), "the report does not name every frame of the block");
        self.table.apply(&self.durable);
        self.log_bytes_max += block.log_bytes_max();
        self.attested = false;
        self.last_commit = Instant::now();
    }

    /// Makes `edit` durable. Returns `false` if there is no space.
    pub(super) fn edit(&mut self, edit: &PositionEdit) -> Result<bool, StorageError> {
        let old = self.table.edit(edit);
        if old.is_empty() {
            // The durable positions need no edit: a stream in a lower epoch accepts the new epoch from its client.
            return Ok(true);
        }
        let is_begun = self.space.begin_with_positions(&self.table, self.next_offset)?;
        if !is_begun {
            self.table.undo(old);
        }
        Ok(is_begun)
    }

    /// Attests the last commit if no other came for [`ATTEST_AFTER`]. Called when [`Self::deadline`] has passed.
    pub(super) fn idle(&mut self) -> Result<(), StorageError> {
        if self.last_commit.elapsed() >= ATTEST_AFTER {
            self.attest()?;
        }
        Ok(())
    }

    /// Writes a block that attests that the last commit is durable, so that recovery need not rewrite that commit.
    fn attest(&mut self) -> Result<(), StorageError> {
        if self.attested {
            return Ok(());
        }
        self.attested = true;
        let content = BlockContent::plain(BlockKind::Attestation, self.next_offset, &[]);
        match self.space.current.push(&content) {
            // Without the attestation the next recovery rewrites the last commit, and nothing else changes.
            Err(error) if error.is_no_space() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.space.current.sync(),
        }
    }

    /// Allocates space that is needed. During a shortage it tries at most once per [`RETRY_AFTER`].
    pub(super) fn allocate_ahead(&mut self) -> Result<(), StorageError> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.space.allocate_ahead(&self.table, self.next_offset)?;
        let is_short = self.space.shortage().is_some();
        self.retry_at = is_short.then(|| Instant::now() + RETRY_AFTER);
        Ok(())
    }

    /// Returns the routine limit: all bytes written plus the room for routine (see `space.rs`). It never falls: a
    /// closed gate keeps the limit of before.
    pub(super) fn raise_limit(&mut self) -> u64 {
        if let Some(room) = self.space.routine_room(self.attested) {
            self.routine_limit = self.routine_limit.max(self.log_bytes_max + room);
        }
        self.routine_limit
    }

    /// Attests the last commit, frees unused space and syncs, so that the next start has little to recover.
    pub(super) fn close(&mut self) -> Result<(), StorageError> {
        self.attest()?;
        self.space.current.trim()?;
        self.space.current.sync()
    }
}
