//! What can go wrong with an export.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use archive::{ReadError, StorageError};

/// The file that says what the directory of an export holds. The underscore keeps readers of data sets from taking it for
/// data.
pub(super) const MANIFEST_NAME: &str = "_export.json";

/// Why an export ended early. No part of the file in hand is left; files finished before it stay.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The archive cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file operation in the directory of the export failed.
    #[error("cannot {op} {path}: {source}; {way_out}", path = path.display(), way_out = way_out(source))]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file system of the export is full.
    #[error(
        "no space to export to {path}: {free} bytes are free, about {need} are needed for one segment; free space \
         there or export to another directory",
        path = path.display()
    )]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What one segment may take in this format, in bytes; an estimate on the safe side.
        need: u64,
        /// What is free there, in bytes.
        free: u64,
    },
    /// The directory holds an export of something else.
    #[error(
        "{out} holds an export with another {what}: {found} there, {wanted} now; a directory holds one export, choose \
         another or empty this one",
        out = out.display()
    )]
    Mixed {
        /// The directory.
        out: PathBuf,
        /// In what they differ: `log`, `format` or `filter`.
        what: &'static str,
        /// What the directory holds.
        found: String,
        /// What it would hold.
        wanted: String,
    },
    /// The directory holds partitions that nothing is known about.
    #[error(
        "{out} holds partitions (date=..) but no readable {name}: what they are of is not known; choose another \
         directory or empty this one",
        out = out.display(),
        name = MANIFEST_NAME
    )]
    Foreign {
        /// The directory.
        out: PathBuf,
    },
    /// Another export writes there now.
    #[error(
        "{out} is in use: another export is writing there; wait for it or choose another directory",
        out = out.display()
    )]
    Busy {
        /// The directory.
        out: PathBuf,
    },
    /// Export and archive would lie in one another.
    #[error(
        "the export directory {out} and the archive {dir} overlap; choose a directory beside the archive",
        out = out.display(),
        dir = dir.display()
    )]
    Overlap {
        /// The export's directory.
        out: PathBuf,
        /// The archive's directory.
        dir: PathBuf,
    },
    /// The segment is not there, or not any more.
    #[error("the archive {dir} has no segment that begins at offset {base}", dir = dir.display())]
    Gone {
        /// The archive's directory.
        dir: PathBuf,
        /// Offset of the first frame.
        base: u64,
    },
    /// Recovery or retention touched the segment meanwhile.
    #[error("the segment that begins at offset {base} changed while it was exported; export it again")]
    Changed {
        /// Offset of its first frame.
        base: u64,
    },
    /// It was asked to stop.
    #[error("the export was stopped")]
    Stopped,
    /// The Parquet library refused what it was given.
    #[error("cannot write {path} as Parquet: {source}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: ParquetError,
    },
}

impl From<StorageError> for ExportError {
    fn from(error: StorageError) -> Self {
        Self::Read(error.into())
    }
}

impl ExportError {
    /// Whether the disk or a quota is full, which passes.
    #[must_use]
    pub const fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    /// `source` of an operation on `path`, told apart by whether space would help.
    pub(super) fn of_file(op: &'static str, path: &Path, need: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        if archive::is_no_space(&source) {
            let free = free_bytes(&path);
            return Self::NoSpace { path, need, free };
        }
        Self::Io { op, path, source }
    }

    /// The library's error, or the file's below it.
    pub(super) fn of_parquet(path: &Path, need: u64, source: ParquetError) -> Self {
        match source {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => Self::of_file("write", path, need, *error),
                Err(error) => Self::Parquet { path: path.to_owned(), source: ParquetError::External(error) },
            },
            source => Self::Parquet { path: path.to_owned(), source },
        }
    }
}

/// What is free where `path` lies or would lie; 0 if that cannot be told.
pub(super) fn free_bytes(path: &Path) -> u64 {
    let existing = path.ancestors().find(|path| path.exists());
    let stats = existing.and_then(|path| rustix::fs::statvfs(path).ok());
    stats.map_or(0, |stats| stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// What to do about `error`.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create the directory it lies in first",
        io::ErrorKind::PermissionDenied => {
            "make the directory writable for this user or export to another one"
        }
        io::ErrorKind::ReadOnlyFilesystem => "export to a file system that can be written",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "name a directory or what does not exist yet"
        }
        _ => "see to the disk or export to another directory",
    }
}
