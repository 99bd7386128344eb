//! Why a command on an archive failed.

use std::io;
use std::path::PathBuf;

use crate::cli::directory::DirectoryError;
use crate::cli::filter::FilterError;
use archive::{ReadError, RepairError, StorageError};
use export::ExportError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The directory holds no archive that can be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The archive cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The filter excludes every frame.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The export failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The output lacks frames that are damaged.
    #[error(
        "{offsets} offsets are damaged and missing from the output, the first at {first}; see archive verify"
    )]
    Damaged {
        /// How many offsets.
        offsets: u64,
        /// The lowest of them.
        first: u64,
    },
    /// The output lacks the frames of this segment, which has a wrong name.
    #[error("the frames of {} are missing from the output; see archive verify", .0.display())]
    Misnamed(PathBuf),
    /// The archive cannot be repaired.
    #[error(transparent)]
    Repair(#[from] RepairError),
}

impl From<StorageError> for CommandError {
    fn from(error: StorageError) -> Self {
        Self::Read(error.into())
    }
}
