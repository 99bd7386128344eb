//! Wakes and stops the maintenance thread.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use frame::liveness::Liveness;

/// The signal on which the maintenance thread sleeps.
pub(crate) struct MaintenanceSignal {
    /// Whether [`Self::wake`] was called since the last [`Self::wait`].
    has_work: Mutex<bool>,
    /// Ends the sleep of the maintenance thread.
    wake: Condvar,
    /// Whether [`Self::stop`] was called. It is an `Arc` because steps of other crates get it too.
    is_stopped: Arc<AtomicBool>,
    /// Liveness of the maintenance thread.
    liveness: Liveness,
}

impl Default for MaintenanceSignal {
    fn default() -> Self {
        Self {
            has_work: Mutex::default(),
            wake: Condvar::new(),
            is_stopped: Arc::default(),
            liveness: Liveness::of_thread(),
        }
    }
}

impl MaintenanceSignal {
    /// Liveness of the maintenance thread.
    pub(crate) const fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Makes maintenance check all segments.
    pub(crate) fn wake(&self) {
        *self.lock() = true;
        self.wake.notify_one();
    }

    /// Ends maintenance after the current step.
    pub(crate) fn stop(&self) {
        // The lock is held here, so that `wait` cannot miss the stop between its check and its sleep.
        let has_work = self.lock();
        self.is_stopped.store(true, Release);
        drop(has_work);
        self.wake.notify_one();
    }

    /// Whether maintenance must end. Long steps call this from time to time, which also updates the liveness.
    pub(crate) fn is_stopped(&self) -> bool {
        self.liveness.work();
        self.is_stopped.load(Acquire)
    }

    /// The flag behind [`Self::is_stopped`], for steps of other crates.
    pub(crate) const fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.is_stopped
    }

    /// Sleeps for at most `pause`. Returns early after [`Self::wake`] and [`Self::stop`].
    ///
    /// Returns whether [`Self::wake`] was called since the last call.
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut has_work = self.lock();
        while !self.is_stopped() && !*has_work {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.liveness.wait();
            has_work = self.wake.wait_timeout(has_work, left).unwrap_or_else(PoisonError::into_inner).0;
            self.liveness.work();
        }
        std::mem::take(&mut *has_work)
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.has_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
