//! The commit thread: take a block, write it, sync it, publish the result.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::commit::{Commit, CommitObserver};
use super::commit_queue::{Block, Next};
use super::edit_request::EditRequest;
use super::published::{Published, Status, Summary};
use super::shared::Shared;
use super::space::Shortage;
use super::writer::{LogWriter, RETRY_AFTER};
use crate::PositionEditError;
use crate::format::BlockEncoder;
use crate::storage::StorageError;

/// Shortest time between two log lines that say that no file can be opened.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// All state of the commit thread.
pub(crate) struct Committer<O> {
    /// The queue of blocks, and what the handles and maintenance set.
    shared: Arc<Shared>,
    /// Where the results of commits appear.
    published: Arc<Published>,
    /// Called after each commit.
    observer: O,
    /// The end of the log.
    log: LogWriter,
    /// The shortage that the published status reports.
    shortage: Option<Shortage>,
    /// When a shortage was last logged.
    logged_at: Option<Instant>,
}

impl<O: CommitObserver> Committer<O> {
    pub(super) fn new(shared: Arc<Shared>, published: Arc<Published>, observer: O, log: LogWriter) -> Self {
        Self { shared, published, observer, log, shortage: None, logged_at: None }
    }

    /// Runs until the appenders are gone and everything is durable, or until storage fails.
    pub(crate) fn run(mut self) -> Result<Summary, StorageError> {
        let mut block = Block::default();
        loop {
            let deadline = self.log.deadline();
            match self.shared.queue.next(&mut block, self.shared.tuning.commit_delay(), deadline) {
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
            self.shared.queue.liveness().work();
            self.log.allocate_ahead()?;
            self.publish();
        }
        self.shared.queue.liveness().work();
        self.shared.fault.check()?;
        self.log.close()?;
        Ok(self.log.summary())
    }

    /// Makes `block` durable, then publishes the watermark and calls the observer.
    ///
    /// Returns `false` if the archive was abandoned or failed before there was space.
    fn commit(&mut self, Block { encoder, .. }: &mut Block) -> Result<bool, StorageError> {
        encoder.finish();
        while !self.log.write(encoder)? {
            // The commit thread keeps the block until there is space. Meanwhile the senders wait.
            self.publish();
            self.published.stats.space_waits.fetch_add(1, Relaxed);
            if self.shared.queue.pause(RETRY_AFTER) {
                return Ok(false);
            }
            if let Some(request) = self.shared.queue.take_request() {
                request.done(Err(PositionEditError::NoSpace));
            }
            self.log.allocate_ahead()?;
        }
        let written = Instant::now();
        // The write and the sync each have the whole time of the watchdog. A sync that takes longer is a hang.
        self.shared.queue.liveness().work();
        self.log.space.current.sync()?;
        self.shared.queue.liveness().work();
        self.shared.fault.check()?;
        let first_offset = self.log.next_offset;
        self.log.committed(encoder);
        self.count(encoder, written.elapsed());
        let before = self.published.watermark.send_replace(self.log.next_offset);
        assert!(
            before < self.log.next_offset,
            "the watermark must rise: {before}, then {}",
            self.log.next_offset
        );
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
    fn edit(&mut self, request: EditRequest) -> Result<(), StorageError> {
        let is_done = self.log.edit(&request.edit)?;
        self.shared.fault.check()?;
        request.done(if is_done { Ok(()) } else { Err(PositionEditError::NoSpace) });
        Ok(())
    }

    fn count(&self, block: &BlockEncoder, sync: Duration) {
        let stats = &self.published.stats;
        stats.frames.fetch_add(block.frame_count(), Relaxed);
        stats.bytes.fetch_add(block.len(), Relaxed);
        stats.sync_times.record(u64::try_from(sync.as_nanos()).unwrap_or(u64::MAX), 1);
        stats.commits.fetch_add(1, Relaxed);
    }

    /// Publishes the routine limit and the status if they changed.
    pub(crate) fn publish(&mut self) {
        let limit = self.log.raise_limit();
        let published = &self.published;
        let current = &self.log.space.current;
        if self.shared.handover.set_current(current.base, current.allocated.max(current.position)) {
            self.shared.signal.wake();
        }
        published.stats.rotations.store(self.log.space.rotations, Relaxed);
        published.routine_limit.send_if_modified(|known| std::mem::replace(known, limit) != limit);
        let shortage = self.log.space.shortage();
        if shortage == self.shortage {
            return;
        }
        let before = std::mem::replace(&mut self.shortage, shortage);
        // Each connection takes and frees a file descriptor, so this shortage may come and go many times a second.
        let is_logged = self.logged_at.is_some_and(|at| at.elapsed() < LOG_EVERY);
        published.status.send_replace(match shortage {
            Some(shortage) => {
                let reason = self.log.space.explain(shortage).into();
                let is_news = shortage != Shortage::Files || !is_logged;
                if shortage == Shortage::Files {
                    published.stats.file_shortages.fetch_add(1, Relaxed);
                }
                if is_news {
                    self.logged_at = Some(Instant::now());
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
