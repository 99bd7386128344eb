//! The steps that maintenance runs on each sealed segment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::index_file::{BuildLimits, Built, build_from};
use crate::log::shared::Shared;
use crate::read::index::{NoIndex, is_sound};
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// A step that maintenance runs once on each sealed segment. Maintenance runs all steps of a segment in order, even if
/// an earlier one fails.
pub(crate) trait Step: Send {
    /// Runs the step on the segment `base`. Does nothing if the step is already done: after a start maintenance runs
    /// the steps on every segment.
    ///
    /// A long step checks `shared.signal.is_stopped()` and then returns early with any error. Such an error does
    /// not count as a failure.
    ///
    /// # Errors
    /// [`StepError`]. Maintenance repeats the step after growing pauses.
    fn run(&mut self, dir: &Dir, base: u64, shared: &Shared) -> Result<(), StepError>;

    /// Describes for the log what the failure means for operators, as a clause.
    fn consequence(&self) -> &'static str;
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Any other failure.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// A sealed segment: the archive adds no frame to it.
#[derive(Clone, Copy, Debug)]
pub struct SealedSegment<'a> {
    /// The archive's directory.
    pub dir: &'a Path,
    /// Offset of the first frame, which is also the name of the segment.
    pub base: u64,
    /// Offset behind the last frame.
    pub end: u64,
}

/// A step of another crate that maintenance runs once on each sealed segment, for example an export.
///
/// The maintenance thread runs it after the step that builds the index, and logs failures.
pub trait SegmentStep: Send {
    /// Runs the step on `segment`. Does nothing if the step is already done: after a start maintenance runs the steps
    /// on every segment.
    ///
    /// The step may block for any time. It must return early with any error once `stop` is true.
    ///
    /// # Errors
    /// Any error. Maintenance repeats the step after growing pauses, until the segment expires.
    fn run(&mut self, segment: &SealedSegment<'_>, stop: &Arc<AtomicBool>) -> Result<(), SegmentStepError>;

    /// Describes for the log what the failure means for operators, as a clause: "this segment is not exported".
    fn consequence(&self) -> &'static str;
}

/// Why a [`SegmentStep`] failed.
pub type SegmentStepError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the steps of each segment: first the index, then `others`. The index leaves `spare_bytes` of the disk to the
/// log.
pub(crate) fn steps(others: Vec<Box<dyn SegmentStep>>, spare_bytes: u64) -> Vec<Box<dyn Step>> {
    let index: Box<dyn Step> = Box::new(BuildIndex { spare_bytes });
    let others = others.into_iter().map(|step| -> Box<dyn Step> { Box::new(OfOthers(step)) });
    std::iter::once(index).chain(others).collect()
}

/// Writes the index of the segment.
struct BuildIndex {
    /// Bytes on the disk that must stay free for the log ([`Config::spare_bytes`](crate::Config)).
    spare_bytes: u64,
}

impl Step for BuildIndex {
    fn run(&mut self, dir: &Dir, base: u64, shared: &Shared) -> Result<(), StepError> {
        if is_sound(dir, base)? {
            return Ok(());
        }
        let limits =
            BuildLimits { spare_bytes: self.spare_bytes, is_stopped: &|| shared.signal.is_stopped() };
        match build_from(dir, base, &limits, || shared.handover.take_index(base))? {
            Built::NoSpace => {
                Err(StepError::Other("no space for an index: the log needs the free space".into()))
            }
            Built::Without(NoIndex::Stopped) => Err(StepError::Other("maintenance was stopped".into())),
            // Without an index, readers read the whole segment. A damaged segment needs that in any case.
            Built::Written { .. } | Built::Without(_) => Ok(()),
        }
    }

    fn consequence(&self) -> &'static str {
        "readers scan this segment, because it has no index"
    }
}

/// Adapts a step of another crate.
struct OfOthers(Box<dyn SegmentStep>);

impl Step for OfOthers {
    fn run(&mut self, dir: &Dir, base: u64, shared: &Shared) -> Result<(), StepError> {
        let Some(end) = dir.next_segment(base)? else {
            return Ok(());
        };
        let segment = SealedSegment { dir: &dir.path, base, end };
        // The step may write to another disk, which can be slow or gone. This delays maintenance but must not restart
        // the daemon.
        shared.signal.liveness().wait();
        let done = self.0.run(&segment, shared.signal.stop_flag());
        shared.signal.liveness().work();
        done.map_err(StepError::Other)
    }

    fn consequence(&self) -> &'static str {
        self.0.consequence()
    }
}
