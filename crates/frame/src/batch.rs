//! A batch: runs of one lane that move together.

use std::sync::Arc;

use super::{FramePriority, FrameRun, FrameView};

/// Runs of one lane that move together. All readers share them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Batch {
    priority: FramePriority,
    runs: Arc<[FrameRun]>,
    len: usize,
}

impl Batch {
    /// A batch of `runs`, all of the lane `priority`.
    ///
    /// # Panics
    /// When a run belongs to the other lane.
    #[must_use]
    pub fn new(priority: FramePriority, runs: Vec<FrameRun>) -> Self {
        assert!(runs.iter().all(|run| run.priority() == priority), "a batch is of one lane");
        let len = runs.iter().map(FrameRun::len).sum();
        Self { priority, runs: runs.into(), len }
    }

    /// The lane of all frames.
    #[must_use]
    pub const fn priority(&self) -> FramePriority {
        self.priority
    }

    /// The number of frames.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same frames, run by run in memory of exactly their size.
    #[must_use]
    pub fn compact(&self) -> Self {
        let runs = self.runs.iter().map(FrameRun::compact).collect();
        Self { priority: self.priority, runs, len: self.len }
    }

    /// The runs, in order.
    #[must_use]
    pub fn runs(&self) -> &[FrameRun] {
        &self.runs
    }

    /// The frames, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = FrameView<'_>> {
        self.runs.iter().flat_map(FrameRun::iter)
    }
}

/// Returns `frames` as a batch, each frame as a run of its own.
///
/// # Panics
/// When `frames` is empty or its frames are of both lanes.
#[cfg(any(test, feature = "test-support"))]
#[must_use]
pub fn batch_of(frames: impl IntoIterator<Item = super::Frame>) -> Batch {
    let runs: Vec<FrameRun> = frames.into_iter().map(FrameRun::from).collect();
    Batch::new(runs.first().expect("a batch has frames").priority(), runs)
}

/// Returns `frames` as one batch per lane that has frames, emergencies first.
#[cfg(any(test, feature = "test-support"))]
pub fn batches_of(frames: impl IntoIterator<Item = super::Frame>) -> impl Iterator<Item = Batch> {
    let is_emergency = |frame: &super::Frame| frame.priority == FramePriority::Emergency;
    let (emergencies, routine): (Vec<_>, Vec<_>) = frames.into_iter().partition(is_emergency);
    [emergencies, routine].into_iter().filter(|frames| !frames.is_empty()).map(batch_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{emergency, origin, routine};

    #[test]
    fn a_batch_counts_the_frames_of_its_runs_and_knows_their_lane() {
        let batch = batch_of([3, 4, 9].map(|sequence| emergency(&origin(7, 1), sequence)));
        assert_eq!((batch.len(), batch.priority()), (3, FramePriority::Emergency));
        assert_eq!(batch.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), [3, 4, 9]);
        assert_eq!(batch.compact().len(), 3);
        assert!(Batch::new(FramePriority::Routine, Vec::new()).is_empty());
    }

    #[test]
    #[should_panic(expected = "a batch is of one lane")]
    fn a_batch_of_both_lanes_is_refused() {
        let _ = batch_of([emergency(&origin(7, 1), 1), routine(&origin(7, 1), 1)]);
    }
}
