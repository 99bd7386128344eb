//! The handles of a running archive.

use std::sync::Arc;

use tokio::sync::watch;

use crate::log::position_edits::PositionEdits;
use crate::log::published::{ArchiveStats, Published, Status, Summary};
use crate::log::shared::Shared;
use crate::log::thread::{CommitThread, panic_text};
use crate::maintain::{AgeHold, RetentionControl, check_confirmable};
use crate::read::history::History;
use crate::thread::OwnedThread;
use crate::{ArchiveError, Config, log, maintain};
use frame::liveness::Liveness;

/// The running archive.
///
/// If it is dropped without [`Archive::finish`], its threads end after the current commit and the current step of
/// maintenance. The directory stays locked until then.
pub struct Archive {
    /// What the threads and the handles share.
    pub(crate) shared: Arc<Shared>,
    /// What the threads publish: status, limit, offsets and counters.
    pub(crate) published: Arc<Published>,
    /// Given out by [`Self::history`].
    pub(crate) history: History,
    /// How the handles reach the maintenance thread: a new retention, a confirmed clock, the age hold.
    pub(crate) retention: Arc<RetentionControl>,
    /// The commit thread. `None` once [`Self::finish`] has taken it.
    pub(crate) thread: Option<CommitThread>,
    /// The maintenance thread. `None` in tests without a clock.
    pub(crate) maintenance: Option<OwnedThread<()>>,
}

/// Changes settings of a running archive. Cheap to clone. It does not keep the archive running.
#[derive(Clone)]
pub struct Tuning {
    /// Holds the commit delay, and wakes maintenance.
    shared: Arc<Shared>,
    /// Holds the retention until maintenance takes it.
    retention: Arc<RetentionControl>,
}

/// Reports whether the archive trusts the clock. Cheap to clone.
#[derive(Clone)]
pub struct AgeHolds(Arc<RetentionControl>);

impl AgeHolds {
    /// Why no segment expires by age; `None` if there is no age limit or it is in force.
    #[must_use]
    pub fn current(&self) -> Option<AgeHold> {
        self.0.age_hold()
    }
}

impl Tuning {
    /// Applies [`Config::commit_delay`] and [`Config::retention`]. All other settings stay as the archive was opened.
    pub fn set(&self, config: &Config) {
        self.shared.tuning.set_commit_delay(config.commit_delay);
        self.retention.set_retention(config.retention);
        self.shared.signal.wake();
    }

    /// Keeps segments with frames at or above the offset that `keep_from` returns, whatever the retention. `u64::MAX` keeps
    /// none. The maintenance thread calls it often, so it must not block.
    pub fn hold(&self, keep_from: impl Fn() -> u64 + Send + Sync + 'static) {
        self.retention.set_keep_from(Arc::new(keep_from));
    }

    /// Records that an operator confirms the wall clock. The confirmation holds until the clock is stepped.
    ///
    /// # Errors
    /// [`AgeHold`] if the clock was never set.
    pub fn trust_clock(&self) -> Result<(), AgeHold> {
        check_confirmable(frame::unix_now_ns())?;
        self.retention.confirm_clock();
        self.shared.signal.wake();
        Ok(())
    }
}

impl Archive {
    /// The current state of the archive, and each change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.published.status.subscribe()
    }

    /// The limit of the gate for routine frames, see [`log_bytes_max`](crate::log_bytes_max). It only grows.
    #[must_use]
    pub fn routine_limit(&self) -> watch::Receiver<u64> {
        self.published.routine_limit.subscribe()
    }

    /// Offset behind the last durable frame.
    #[must_use]
    pub fn watermark(&self) -> watch::Receiver<u64> {
        self.published.watermark.subscribe()
    }

    /// A handle to read what is durable.
    #[must_use]
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// A handle that lowers epochs and forgets streams while the archive runs.
    #[must_use]
    pub fn position_edits(&self) -> PositionEdits {
        PositionEdits(Arc::clone(&self.shared))
    }

    /// Offset of the oldest frame that is kept. It only grows.
    #[must_use]
    pub fn first_offset(&self) -> watch::Receiver<u64> {
        self.published.first_offset.subscribe()
    }

    /// A handle that reports whether the archive trusts the clock.
    #[must_use]
    pub fn age_holds(&self) -> AgeHolds {
        AgeHolds(Arc::clone(&self.retention))
    }

    /// A handle that changes settings while the archive runs.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        Tuning { shared: Arc::clone(&self.shared), retention: Arc::clone(&self.retention) }
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<ArchiveStats> {
        Arc::clone(&self.published.stats)
    }

    /// The name and the liveness of each thread of the archive.
    #[must_use]
    pub fn liveness(&self) -> [(&'static str, Liveness); 2] {
        [
            (log::thread::NAME, self.shared.queue.liveness().clone()),
            (maintain::NAME, self.shared.signal.liveness().clone()),
        ]
    }

    /// Waits until every [`Appender`](crate::Appender) is dropped, every batch is durable and the threads have ended.
    ///
    /// Maintenance ends at once, or after its current step.
    ///
    /// # Errors
    /// [`ArchiveError`] if storage failed or the commit thread panicked, now or earlier.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the archive: frames that are not yet durable are discarded.
    pub async fn finish(mut self) -> Result<Summary, ArchiveError> {
        self.shared.signal.stop();
        if let Some(thread) = &mut self.thread {
            thread.ended().await;
        }
        let Some(thread) = self.thread.take() else {
            unreachable!("only `finish` takes the thread, and it consumes the archive");
        };
        let joined = thread.join();
        if let Some(mut maintenance) = self.maintenance.take() {
            maintenance.ended().await;
            // The maintenance thread logs its panic itself.
            _ = maintenance.join();
        }
        match joined {
            Ok(result) => Ok(result?),
            Err(panic) => Err(ArchiveError::Panicked(panic_text(&*panic))),
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.shared.signal.stop();
        if self.thread.is_some() {
            self.shared.queue.abandon();
        }
    }
}
