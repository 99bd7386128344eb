//! Settings of the commit thread that a reload of the configuration changes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The settings of the commit thread that can change while it runs.
pub(crate) struct CommitTuning {
    /// How long the commit thread collects routine frames for one commit, in nanoseconds.
    commit_delay_ns: AtomicU64,
}

impl CommitTuning {
    pub(crate) fn new(commit_delay: Duration) -> Self {
        let tuning = Self { commit_delay_ns: AtomicU64::new(0) };
        tuning.set_commit_delay(commit_delay);
        tuning
    }

    pub(crate) fn commit_delay(&self) -> Duration {
        Duration::from_nanos(self.commit_delay_ns.load(Relaxed))
    }

    /// Sets the commit delay. The new delay applies after the block that is being collected or waited for.
    pub(crate) fn set_commit_delay(&self, delay: Duration) {
        self.commit_delay_ns.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}
