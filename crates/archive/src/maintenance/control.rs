//! Between the commit thread and maintenance: what is being written, when to stop, and what must stop both.

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

/// Shared by the commit thread, maintenance and the archive's handle.
pub(crate) struct MaintenanceControl {
    queue: Arc<CommitQueue>,
    /// Base of the segment being written: only what lies below it is sealed.
    current_base: AtomicU64,
    /// Bytes of that segment, space allocated ahead included.
    current_bytes: AtomicU64,
    has_fault: AtomicBool,
    is_stopped: Arc<AtomicBool>,
    /// How long routine frames are gathered for one commit, in nanoseconds.
    commit_delay_ns: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
    /// Of the maintenance thread.
    liveness: Liveness,
}

#[derive(Default)]
struct State {
    is_sealed: bool,
    /// Set while the archive runs, and not seen by maintenance yet.
    retention: Option<Retention>,
    /// Whether an operator said that the clock is right, and maintenance has not seen it yet.
    has_word: bool,
    /// Why nothing expires by age, as maintenance found it last.
    age_hold: Option<AgeHold>,
    /// Of sealed segments that maintenance has not come to, in the order of the log.
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

    /// Of the maintenance thread.
    pub(crate) const fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Tells what is being written. All segments below `base` are sealed, which wakes maintenance where it is news.
    pub(crate) fn writing(&self, base: u64, bytes: u64) {
        self.current_bytes.store(bytes, Relaxed);
        if self.current_base.swap(base, AcqRel) != base {
            self.lock().is_sealed = true;
            self.wake.notify_one();
        }
    }

    /// Takes the index of a segment that was just sealed, to be told of by [`Self::writing`].
    ///
    /// All of them together may take [`index::READY_BYTES_MAX`]; for the newest the oldest are let go, and maintenance walks
    /// over their segments.
    pub(crate) fn hand_over(&self, index: index::Ready) {
        let mut state = self.lock();
        state.indexes.push_back(index);
        while state.indexes.iter().map(index::Ready::bytes).sum::<usize>() > index::READY_BYTES_MAX {
            state.indexes.pop_front();
        }
    }

    /// The index of the segment `base`, if it was handed over; those of segments before it are let go.
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

    /// In force after the block that is being gathered, or waited for.
    pub(crate) fn set_commit_delay(&self, delay: Duration) {
        self.commit_delay_ns.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// In force from now on; maintenance looks through everything.
    pub(crate) fn set_retention(&self, retention: Retention) {
        self.lock().retention = Some(retention);
        self.wake.notify_one();
    }

    /// What retention was set to since it was last asked, if it was.
    pub(super) fn take_retention(&self) -> Option<Retention> {
        self.lock().retention.take()
    }

    /// Takes an operator's word that the wall clock is right; maintenance looks through everything.
    pub(crate) fn give_word(&self) {
        self.lock().has_word = true;
        self.wake.notify_one();
    }

    /// Whether an operator gave a word since this was last asked.
    pub(super) fn take_word(&self) -> bool {
        std::mem::take(&mut self.lock().has_word)
    }

    /// Publishes why nothing expires by age.
    pub(super) fn set_age_hold(&self, hold: Option<AgeHold>) {
        self.lock().age_hold = hold;
    }

    /// Why nothing expires by age.
    pub(crate) fn age_hold(&self) -> Option<AgeHold> {
        self.lock().age_hold.clone()
    }

    pub(super) fn current_base(&self) -> u64 {
        self.current_base.load(Acquire)
    }

    pub(super) fn current_bytes(&self) -> u64 {
        self.current_bytes.load(Relaxed)
    }

    /// Ends maintenance after the step in hand.
    pub(crate) fn stop(&self) {
        // Under the lock, so that nobody goes to sleep in between.
        let state = self.lock();
        self.is_stopped.store(true, Release);
        drop(state);
        self.wake.notify_one();
    }

    /// Whether maintenance is to end. Long steps look from time to time, which also shows that they go on.
    pub(crate) fn is_stopped(&self) -> bool {
        self.liveness.work();
        self.is_stopped.load(Acquire)
    }

    /// [`Self::is_stopped`], for steps that do not know of maintenance.
    pub(super) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_stopped)
    }

    /// Sleeps for `pause`, or until there is something to look at or maintenance is to end; whether there is: a segment was
    /// sealed, retention was set, or an operator gave a word.
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

    /// Makes the archive fail with `error`: nothing is acknowledged any more.
    pub(super) fn fail(&self, error: StorageError) {
        let text = error.to_string();
        let mut state = self.lock();
        self.is_stopped.store(true, Release);
        state.fault.get_or_insert(error);
        self.has_fault.store(true, Release);
        drop(state);
        self.queue.fail(text.into());
    }

    /// Whether maintenance found that the archive cannot go on; asked by the commit thread before it acknowledges.
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
