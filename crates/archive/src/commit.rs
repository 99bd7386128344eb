//! The commit thread: take a block, write it, sync it, publish the result.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::commit_queue::{Block, CommitQueue, Next};
use super::dir::beyond_offsets;
use super::edit::{Edit, Request};
use super::format::{BlockEncoder, BlockKind, OFFSET_MAX};
use super::maintenance::MaintenanceControl;
use super::positions::PositionTable;
use super::published::Published;
use super::segment::BlockContent;
use super::space::{Shortage, Space};
use super::storage::StorageError;
use super::{Commit, CommitObserver, Durable, ResetError, Status, Summary};

/// Time without a commit after which the commit thread attests the last commit.
const ATTEST_AFTER: Duration = Duration::from_millis(100);
/// Shortest time between two log lines that say that no file can be opened.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Pause before the commit thread retries when the disk is full or no file can be opened.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// All state of the commit thread.
pub(super) struct Committer<O> {
    pub(super) queue: Arc<CommitQueue>,
    pub(super) control: Arc<MaintenanceControl>,
    pub(super) published: Arc<Published>,
    pub(super) observer: O,
    pub(super) log: Log,
    /// The shortage that the published status reports.
    pub(super) shortage: Option<Shortage>,
    /// When a shortage was last logged.
    pub(super) told_at: Option<Instant>,
}

/// The end of the log, where the commit thread writes.
pub(super) struct Log {
    space: Space,
    table: PositionTable,
    durable: Vec<Durable>,
    /// Offset behind the last durable frame.
    next_offset: u64,
    /// Whether a block attests that the last commit is durable.
    attested: bool,
    last_commit: Instant,
    /// Sum of the charges of all frames written since the start, in bytes.
    charged: u64,
    routine_limit: u64,
    retry_at: Option<Instant>,
    summary: Summary,
}

impl<O: CommitObserver> Committer<O> {
    /// Runs until the appenders are gone and everything is durable, or until storage fails.
    pub(super) fn run(mut self) -> Result<Summary, StorageError> {
        let mut block = Block::default();
        loop {
            let deadline = self.log.deadline();
            match self.queue.next(&mut block, self.control.commit_delay(), deadline) {
                Next::Commit => {
                    if !self.commit(&mut block)? {
                        break;
                    }
                    block.clear();
                }
                Next::Edit(request) => self.edit(request)?,
                Next::Timeout => self.log.idle()?,
                Next::End => break,
            }
            self.queue.liveness().work();
            self.log.tend()?;
            self.publish();
        }
        self.queue.liveness().work();
        self.control.check()?;
        self.log.close()?;
        self.log.summary.next_offset = self.log.next_offset;
        Ok(self.log.summary)
    }

    /// Makes `block` durable, then publishes the watermark and calls the observer.
    ///
    /// Returns `false` if the archive was abandoned or failed before there was space.
    fn commit(&mut self, Block { encoder, .. }: &mut Block) -> Result<bool, StorageError> {
        encoder.finish();
        let started = Instant::now();
        while !self.log.write(encoder)? {
            // The commit thread keeps the block until there is space. Meanwhile the senders wait.
            self.publish();
            self.published.stats.space_waits.fetch_add(1, Relaxed);
            if self.queue.pause(RETRY_AFTER) {
                return Ok(false);
            }
            if let Some(request) = self.queue.take_request() {
                request.done(Err(ResetError::NoSpace));
            }
            self.log.tend()?;
        }
        let written = Instant::now();
        // The write and the sync each have the whole time of the watchdog. A sync that takes longer is a hang.
        self.queue.liveness().work();
        self.log.space.current.sync()?;
        self.queue.liveness().work();
        self.control.check()?;
        let first_offset = self.log.next_offset;
        self.log.committed(encoder);
        self.count(encoder, written - started, written.elapsed());
        self.published.watermark.send_replace(self.log.next_offset);
        self.observer.committed(&Commit {
            first_offset,
            next_offset: self.log.next_offset,
            frames: encoder.frames(),
            received: encoder.received(),
            positions: &self.log.durable,
        });
        // The index comes last, because only the next commit waits for it. The block is still in memory here, so
        // building the index reads nothing from the disk.
        self.log.space.current.index(encoder);
        Ok(true)
    }

    /// Edits positions between two commits and reports the result to the sender of `request`.
    fn edit(&mut self, request: Request) -> Result<(), StorageError> {
        let is_done = self.log.edit(&request.edit)?;
        self.control.check()?;
        request.done(if is_done { Ok(()) } else { Err(ResetError::NoSpace) });
        Ok(())
    }

    fn count(&self, block: &BlockEncoder, write: Duration, sync: Duration) {
        let stats = &self.published.stats;
        stats.frames.fetch_add(block.frame_count(), Relaxed);
        stats.bytes.fetch_add(block.len(), Relaxed);
        stats.write_ns.fetch_add(nanos(write), Relaxed);
        stats.sync_times.record(nanos(sync), 1);
        stats.commits.fetch_add(1, Relaxed);
    }

    /// Publishes the routine limit and the status if they changed.
    pub(super) fn publish(&mut self) {
        let limit = self.log.raise_limit();
        let published = &self.published;
        let current = &self.log.space.current;
        self.control.writing(current.base, current.allocated.max(current.position));
        published.stats.rotations.store(self.log.space.rotations, Relaxed);
        published.routine_limit.send_if_modified(|known| std::mem::replace(known, limit) != limit);
        let shortage = self.log.space.shortage();
        if shortage == self.shortage {
            return;
        }
        let before = std::mem::replace(&mut self.shortage, shortage);
        // Each connection takes and frees a file descriptor, so this shortage may come and go many times a second.
        let is_told = self.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY);
        published.status.send_replace(match shortage {
            Some(shortage) => {
                let reason = self.log.space.explain(shortage).into();
                let is_news = shortage != Shortage::Files || !is_told;
                if shortage == Shortage::Files {
                    published.stats.file_shortages.fetch_add(1, Relaxed);
                }
                if is_news {
                    self.told_at = Some(Instant::now());
                    tracing::error!(%reason, "archive degraded");
                }
                Status::Degraded { reason }
            }
            None => {
                match before {
                    Some(Shortage::Files) => tracing::info!("the archive can open files again"),
                    _ => tracing::info!("the archive has space again"),
                }
                Status::Ok
            }
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Log {
    pub(super) fn new(
        space: Space,
        table: PositionTable,
        next_offset: u64,
        attested: bool,
    ) -> Result<Self, StorageError> {
        let mut log = Self {
            space,
            table,
            durable: Vec::new(),
            next_offset,
            attested,
            last_commit: Instant::now(),
            charged: 0,
            routine_limit: 0,
            retry_at: Some(Instant::now()),
            summary: Summary { frames: 0, next_offset },
        };
        log.tend()?;
        log.attest()?;
        Ok(log)
    }

    /// Returns when the commit thread must wake even if no frame comes.
    fn deadline(&self) -> Option<Instant> {
        let attest_at = (!self.attested).then(|| self.last_commit + ATTEST_AFTER);
        attest_at.into_iter().chain(self.retry_at).min()
    }

    /// Writes the finished block. Returns `false` if there is no space.
    fn write(&mut self, block: &mut BlockEncoder) -> Result<bool, StorageError> {
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
    fn committed(&mut self, block: &BlockEncoder) {
        self.space.current.position += block.len();
        self.next_offset += block.frame_count();
        self.summary.frames += block.frame_count();
        block.durable(&mut self.durable);
        self.table.apply(&self.durable);
        self.charged += block.charged();
        self.attested = false;
        self.last_commit = Instant::now();
    }

    /// Makes `edit` durable. Returns `false` if there is no space.
    fn edit(&mut self, edit: &Edit) -> Result<bool, StorageError> {
        let old = self.table.edit(edit);
        if old.is_empty() {
            // The durable positions need no edit: a stream in a lower epoch accepts the new epoch from its client.
            return Ok(true);
        }
        let is_restated = self.space.restate(&self.table, self.next_offset)?;
        if !is_restated {
            self.table.take_back(old);
        }
        Ok(is_restated)
    }

    fn idle(&mut self) -> Result<(), StorageError> {
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
    fn tend(&mut self) -> Result<(), StorageError> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.space.tend(&self.table, self.next_offset)?;
        let is_short = self.space.shortage().is_some();
        self.retry_at = is_short.then(|| Instant::now() + RETRY_AFTER);
        Ok(())
    }

    fn raise_limit(&mut self) -> u64 {
        if let Some(room) = self.space.routine_room(self.attested) {
            self.routine_limit = self.routine_limit.max(self.charged + room);
        }
        self.routine_limit
    }

    /// Attests the last commit, frees unused space and syncs, so that the next start has little to recover.
    fn close(&mut self) -> Result<(), StorageError> {
        self.attest()?;
        self.space.current.trim()?;
        self.space.current.sync()
    }
}
