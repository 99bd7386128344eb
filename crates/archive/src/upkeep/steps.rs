//! What is done to each sealed segment.

use super::Link;
use crate::dir::Dir;
use crate::export::{ExportConfig, Exporter};
use crate::index::{self, Built, Manners};
use crate::storage::StorageError;

/// Something that is done once to each sealed segment; the steps of a segment follow one another, whether or not the
/// ones before succeeded.
pub(crate) trait Step: Send {
    /// Does it for the segment `base`, or nothing where it is done already: after a start every segment comes by.
    ///
    /// What takes long looks at [`Link::is_stopped`] and ends early with any error, which then counts as none.
    ///
    /// # Errors
    /// [`StepError`]; the step is tried again, after pauses that grow.
    fn run(&mut self, dir: &Dir, base: u64, link: &Link) -> Result<(), StepError>;

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

/// The steps of each segment: its index, which leaves `spare_bytes` of the disk to the log, then its export where one is
/// configured.
pub(crate) fn steps(export: Option<ExportConfig>, spare_bytes: u64, link: &Link) -> Vec<Box<dyn Step>> {
    let mut steps: Vec<Box<dyn Step>> = vec![Box::new(BuildIndex { spare_bytes })];
    if let Some(config) = export {
        steps.push(Box::new(Export(Exporter::new(config).stopped_by(link.stop_flag()))));
    }
    steps
}

struct BuildIndex {
    spare_bytes: u64,
}

impl Step for BuildIndex {
    fn run(&mut self, dir: &Dir, base: u64, link: &Link) -> Result<(), StepError> {
        if index::is_sound(dir, base)? {
            return Ok(());
        }
        let manners = Manners { spare_bytes: self.spare_bytes, is_stopped: &|| link.is_stopped() };
        match index::build_from(dir, base, &manners, || link.take_index(base))? {
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

struct Export(Exporter);

impl Step for Export {
    fn run(&mut self, dir: &Dir, base: u64, link: &Link) -> Result<(), StepError> {
        // It may lie on another disk, however slow or gone: that keeps upkeep, and is no reason to restart a daemon.
        link.pulse().wait();
        let exported = self.export(dir, base);
        link.pulse().work();
        exported
    }

    fn consequence(&self) -> &'static str {
        "this segment is not exported"
    }
}

impl Export {
    fn export(&mut self, dir: &Dir, base: u64) -> Result<(), StepError> {
        if self.0.is_exported(base) {
            return Ok(());
        }
        let Some(end) = dir.next_segment(base)? else {
            return Ok(());
        };
        let exported = self.0.export_segment(base, end).map_err(|error| StepError::Other(error.into()))?;
        tracing::info!(
            from_offset = base,
            to_offset = end,
            files = exported.files,
            rows = exported.rows,
            bytes = exported.bytes,
            "segment exported"
        );
        Ok(())
    }
}
