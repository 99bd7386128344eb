//! Counters of the pipeline, and a snapshot of them without a lock (RFC-0047, "Stats").

use std::sync::atomic::{AtomicU64, Ordering};

use frame::FramePriority;

/// The counters of the pipeline. Writers count in the order routed, processed, emergency.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that left the fan-in.
    frames_routed: AtomicU64,
    /// Frames that the processor has finished.
    frames_processed: AtomicU64,
    /// Emergencies among them.
    emergency_count: AtomicU64,
}

/// A snapshot of [`Counters`], where routed >= processed >= emergency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Frames that left the fan-in.
    pub frames_routed: u64,
    /// Frames that the processor has finished: broadcast, and taken by the archive.
    pub frames_processed: u64,
    /// Processed frames that were emergencies.
    pub emergency_count: u64,
}

impl Counters {
    pub(super) fn add_routed(&self, frames: usize) {
        self.frames_routed.fetch_add(frames as u64, Ordering::Release);
    }

    pub(super) fn add_processed(&self, priority: FramePriority, frames: usize) {
        self.frames_processed.fetch_add(frames as u64, Ordering::Release);
        if priority == FramePriority::Emergency {
            self.emergency_count.fetch_add(frames as u64, Ordering::Release);
        }
    }
}

/// Reads the counters with atomic loads only: no lock, no allocation, never waits.
///
/// The counters are read in the opposite order of counting. So routed >= processed >= emergency holds in
/// every snapshot, however writers interleave.
#[must_use]
pub fn snapshot(counters: &Counters) -> PipelineStats {
    let emergency_count = counters.emergency_count.load(Ordering::Acquire);
    let frames_processed = counters.frames_processed.load(Ordering::Acquire);
    let frames_routed = counters.frames_routed.load(Ordering::Acquire);
    PipelineStats { frames_routed, frames_processed, emergency_count }
}
