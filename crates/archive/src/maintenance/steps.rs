//! What is done to each sealed segment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::MaintenanceControl;
use crate::dir::Dir;
use crate::index::{self, BuildLimits, Built};
use crate::storage::StorageError;

/// Something that is done once to each sealed segment; the steps of a segment follow one another, whether or not the
/// ones before succeeded.
pub(crate) trait Step: Send {
    /// Does it for the segment `base`, or nothing where it is done already: after a start every segment comes by.
    ///
    /// What takes long looks at [`MaintenanceControl::is_stopped`] and ends early with any error, which then counts as none.
    ///
    /// # Errors
    /// [`StepError`]; the step is tried again, after pauses that grow.
    fn run(&mut self, dir: &Dir, base: u64, control: &MaintenanceControl) -> Result<(), StepError>;

    /// What it means for people when it fails, as a clause for the log.
    fn consequence(&self) -> &'static str;
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// A file operation.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// A segment that no frame is added to any more.
#[derive(Clone, Copy, Debug)]
pub struct SealedSegment<'a> {
    /// The archive's directory.
    pub dir: &'a Path,
    /// Offset of its first frame, by which it is named.
    pub base: u64,
    /// Offset behind its last frame.
    pub end: u64,
}

/// What another crate does once to each sealed segment, an export for example.
///
/// The archive calls it on its maintenance thread, after the step that builds the index, and logs what fails.
pub trait SegmentStep: Send {
    /// Does it for `segment`, or nothing where it is done already: after a start every segment comes by.
    ///
    /// It may block for as long as it takes, and ends early with any error once `stop` is true.
    ///
    /// # Errors
    /// Any; the step is tried again, after pauses that grow, until the segment expires.
    fn run(&mut self, segment: &SealedSegment<'_>, stop: &Arc<AtomicBool>) -> Result<(), SegmentStepError>;

    /// What it means for people when it fails, as a clause for the log: "this segment is not exported".
    fn consequence(&self) -> &'static str;
}

/// Why a [`SegmentStep`] failed.
pub type SegmentStepError = Box<dyn std::error::Error + Send + Sync>;

/// The steps of each segment: its index, which leaves `spare_bytes` of the disk to the log, then those of others.
pub(crate) fn steps(others: Vec<Box<dyn SegmentStep>>, spare_bytes: u64) -> Vec<Box<dyn Step>> {
    let index: Box<dyn Step> = Box::new(BuildIndex { spare_bytes });
    let others = others.into_iter().map(|step| -> Box<dyn Step> { Box::new(OfOthers(step)) });
    std::iter::once(index).chain(others).collect()
}

struct BuildIndex {
    spare_bytes: u64,
}

impl Step for BuildIndex {
    fn run(&mut self, dir: &Dir, base: u64, control: &MaintenanceControl) -> Result<(), StepError> {
        if index::is_sound(dir, base)? {
            return Ok(());
        }
        let limits = BuildLimits { spare_bytes: self.spare_bytes, is_stopped: &|| control.is_stopped() };
        match index::build_from(dir, base, &limits, || control.take_index(base))? {
            Built::NoSpace => Err(StepError::Other("no space for an index beside what the log needs".into())),
            Built::Stopped => Err(StepError::Other("upkeep was stopped".into())),
            // Without an index readers look through the segment, which damage asks for anyway.
            Built::Written { .. } | Built::Damaged | Built::TooManyOrigins | Built::NotSealed => Ok(()),
        }
    }

    fn consequence(&self) -> &'static str {
        "reads look through this segment without an index"
    }
}

/// A step of another crate.
struct OfOthers(Box<dyn SegmentStep>);

impl Step for OfOthers {
    fn run(&mut self, dir: &Dir, base: u64, control: &MaintenanceControl) -> Result<(), StepError> {
        let Some(end) = dir.next_segment(base)? else {
            return Ok(());
        };
        let segment = SealedSegment { dir: &dir.path, base, end };
        // It may write to another disk, however slow or gone: that keeps maintenance, and is no reason to restart a daemon.
        control.liveness().wait();
        let done = self.0.run(&segment, &control.stop_flag());
        control.liveness().work();
        done.map_err(StepError::Other)
    }

    fn consequence(&self) -> &'static str {
        self.0.consequence()
    }
}
