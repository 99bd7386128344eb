//! The archive directory that a command names.

use std::io;
use std::path::{Path, PathBuf};

use archive::inspect::{InspectError, holds_archive};

/// Why a command finds no usable archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    /// The directory exists and holds no archive.
    #[error(
        "{} holds no archive: neither this directory nor its subdirectory `archive` contains segments; pass the \
         data_dir of the daemon",
        .0.display()
    )]
    NoArchive(PathBuf),
    /// The directory cannot be listed.
    #[error("{} cannot be listed: {source}; pass the data_dir of the daemon", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The archive must not be used as it is.
    #[error(transparent)]
    Unusable(#[from] InspectError),
}

/// The archive directory that `dir` names: `dir` itself, or the directory `archive` in it.
///
/// # Errors
/// [`DirectoryError`].
pub(super) fn resolve(dir: &Path) -> Result<PathBuf, DirectoryError> {
    if let Err(source) = std::fs::read_dir(dir) {
        return Err(DirectoryError::NoDirectory { path: dir.to_owned(), source });
    }
    let inner = dir.join("archive");
    for candidate in [dir, &inner] {
        if candidate.is_dir() && holds_archive(candidate)? {
            return Ok(candidate.to_owned());
        }
    }
    Err(DirectoryError::NoArchive(dir.to_owned()))
}
