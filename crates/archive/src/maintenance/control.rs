//! Shared state of the commit thread and maintenance: the segment being written, the stop flag, and a fault that stops
//! both.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::AgeHold;
use crate::Retention;
use crate::commit_queue::CommitQueue;
use crate::index;
use crate::storage::StorageError;
use frame::liveness::Liveness;

/// State that the commit thread, maintenance and the archive's handle share.
pub(crate) struct MaintenanceControl {
    queue: Arc<CommitQueue>,
    /// Base of the segment being written. Only segments below this offset are sealed.
    current_base: AtomicU64,
    /// Bytes of the segment being written, including space allocated ahead.
    current_bytes: AtomicU64,
    has_fault: AtomicBool,
    is_stopped: Arc<AtomicBool>,
    /// How long the commit thread collects routine frames for one commit, in nanoseconds.
    commit_delay_ns: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
    /// Liveness of the maintenance thread.
    liveness: Liveness,
}

#[derive(Default)]
struct State {
    is_sealed: bool,
    /// A new retention that maintenance has not taken yet.
    retention: Option<Retention>,
    /// Whether an operator confirmed the clock and maintenance has not taken the confirmation yet.
    has_word: bool,
    /// The last reason maintenance found why no segment expires by age.
    age_hold: Option<AgeHold>,
    /// Indexes of sealed segments that maintenance has not processed, in log order.
    indexes: VecDeque<index::Ready>,
    fault: Option<StorageError>,
}

impl State {
    fn has_news(&self) -> bool {
        self.is_sealed || self.retention.is_some() || self.has_word
    }
}

impl MaintenanceControl {
    pub(crate) fn new(queue: Arc<CommitQueue>) -> Self {
        Self {
            queue,
            current_base: AtomicU64::new(0),
            current_bytes: AtomicU64::new(0),
            has_fault: AtomicBool::new(false),
            is_stopped: Arc::default(),
            commit_delay_ns: AtomicU64::new(0),
            state: Mutex::default(),
            wake: Condvar::new(),
            liveness: Liveness::of_thread(),
        }
    }

    pub(crate) fn queue(&self) -> &Arc<CommitQueue> {
        &self.queue
    }

    /// Liveness of the maintenance thread.
    pub(crate) const fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Records which segment is being written: its base, and its bytes. All segments below `base` are sealed. Wakes
    /// maintenance if `base` is new.
    pub(crate) fn writing(&self, base: u64, bytes: u64) {
        self.current_bytes.store(bytes, Relaxed);
        if self.current_base.swap(base, AcqRel) != base {
            self.lock().is_sealed = true;
            self.wake.notify_one();
        }
    }

    /// Stores the index of a segment that the commit thread has just sealed. The caller then calls [`Self::writing`].
    ///
    /// All stored indexes together take at most [`index::READY_BYTES_MAX`] bytes. Above this limit the oldest ones are
    /// dropped, and maintenance builds their indexes from the segments.
    pub(crate) fn hand_over(&self, index: index::Ready) {
        let mut state = self.lock();
        state.indexes.push_back(index);
        while state.indexes.iter().map(index::Ready::bytes).sum::<usize>() > index::READY_BYTES_MAX {
            state.indexes.pop_front();
        }
    }

    /// Takes the index of the segment `base`, if the commit thread stored one. Drops the indexes of older segments.
    pub(crate) fn take_index(&self, base: u64) -> Option<index::Ready> {
        let mut state = self.lock();
        while state.indexes.front()?.base() < base {
            state.indexes.pop_front();
        }
        state.indexes.pop_front_if(|index| index.base() == base)
    }

    pub(crate) fn commit_delay(&self) -> Duration {
        Duration::from_nanos(self.commit_delay_ns.load(Relaxed))
    }

    /// Sets the commit delay. The new delay applies after the block that is being collected or waited for.
    pub(crate) fn set_commit_delay(&self, delay: Duration) {
        self.commit_delay_ns.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Sets the retention. It applies at once, and maintenance checks all segments.
    pub(crate) fn set_retention(&self, retention: Retention) {
        self.lock().retention = Some(retention);
        self.wake.notify_one();
    }

    /// Takes the new retention, if one was set since the last call.
    pub(super) fn take_retention(&self) -> Option<Retention> {
        self.lock().retention.take()
    }

    /// Records that an operator confirms the wall clock. Maintenance then checks all segments.
    pub(crate) fn give_word(&self) {
        self.lock().has_word = true;
        self.wake.notify_one();
    }

    /// Takes the operator's confirmation: whether there was one since the last call.
    pub(super) fn take_word(&self) -> bool {
        std::mem::take(&mut self.lock().has_word)
    }

    /// Publishes why no segment expires by age.
    pub(super) fn set_age_hold(&self, hold: Option<AgeHold>) {
        self.lock().age_hold = hold;
    }

    /// Returns why no segment expires by age.
    pub(crate) fn age_hold(&self) -> Option<AgeHold> {
        self.lock().age_hold.clone()
    }

    pub(super) fn current_base(&self) -> u64 {
        self.current_base.load(Acquire)
    }

    pub(super) fn current_bytes(&self) -> u64 {
        self.current_bytes.load(Relaxed)
    }

    /// Ends maintenance after the current step.
    pub(crate) fn stop(&self) {
        // The lock is held here, so that `wait` cannot miss the stop between its check and its sleep.
        let state = self.lock();
        self.is_stopped.store(true, Release);
        drop(state);
        self.wake.notify_one();
    }

    /// Whether maintenance must end. Long steps call this from time to time, which also updates the liveness.
    pub(crate) fn is_stopped(&self) -> bool {
        self.liveness.work();
        self.is_stopped.load(Acquire)
    }

    /// The flag behind [`Self::is_stopped`], for steps that do not know maintenance.
    pub(super) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_stopped)
    }

    /// Sleeps for at most `pause`. Wakes early when there is work or when maintenance must end.
    ///
    /// Returns whether there is work: a segment was sealed, retention was set, or an operator confirmed the clock.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !self.is_stopped() && !state.has_news() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.liveness.wait();
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            self.liveness.work();
        }
        let has_news = state.has_news();
        state.is_sealed = false;
        has_news
    }

    /// Makes the archive fail with `error`. From then on the archive acknowledges nothing.
    pub(super) fn fail(&self, error: StorageError) {
        let text = error.to_string();
        let mut state = self.lock();
        self.is_stopped.store(true, Release);
        state.fault.get_or_insert(error);
        self.has_fault.store(true, Release);
        drop(state);
        self.queue.fail(text.into());
    }

    /// Returns the fault that maintenance found, if any. The commit thread calls this before it acknowledges a commit.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if !self.has_fault.load(Acquire) {
            return Ok(());
        }
        self.lock().fault.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
