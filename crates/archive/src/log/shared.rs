//! What the threads of an archive share.

use super::commit_queue::CommitQueue;
use super::fault::Fault;
use super::handover::SegmentHandover;
use super::signal::MaintenanceSignal;
use super::tuning::CommitTuning;
use crate::config::{Config, Limits};
use crate::storage::StorageError;

/// What the commit thread, the maintenance thread and the handles of an archive share.
pub(crate) struct Shared {
    /// The blocks on their way to the commit thread.
    pub(crate) queue: CommitQueue,
    /// Settings of the commit thread that a reload changes.
    pub(crate) tuning: CommitTuning,
    /// Wakes and stops maintenance.
    pub(crate) signal: MaintenanceSignal,
    /// Which segments are sealed, with their indexes.
    pub(crate) handover: SegmentHandover,
    /// The failure that maintenance found.
    pub(crate) fault: Fault,
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            queue: CommitQueue::new(&Limits::new(config)),
            tuning: CommitTuning::new(config.commit_delay),
            signal: MaintenanceSignal::default(),
            handover: SegmentHandover::default(),
            fault: Fault::default(),
        }
    }

    /// Makes the archive fail with `error`, which maintenance has found. From then on the archive acknowledges nothing.
    pub(crate) fn fail(&self, error: StorageError) {
        let text = error.to_string();
        self.signal.stop();
        // Set before the queue ends the commit thread, which then returns this error.
        self.fault.set(error);
        self.queue.fail(text.into());
    }
}
