//! The errors of an export.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use archive::{ReadError, StorageError};

/// Name of the file that describes the content of an export directory. The underscore keeps readers of data sets from
/// reading the file as data.
pub const MANIFEST_NAME: &str = "_export.json";

/// Why an export ended early. The unfinished file is removed. Files that were finished before stay.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The archive cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file operation in the directory of the export failed.
    #[error("cannot {op} {path}: {source}; {way_out}", path = path.display(), way_out = way_out(source))]
    Io {
        /// The failed operation, as a verb.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the file system.
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
        /// Upper estimate of the bytes that one segment needs in this format.
        /// ordinary size.
        need: u64,
        /// Free bytes on the file system.
        free: u64,
    },
    /// The directory holds an export of something else.
    #[error(
        "{out} holds an export with another {what}: {found} there, {wanted} now; a directory holds one export, so \
         choose another directory or empty this one",
        out = out.display()
    )]
    Mixed {
        /// The directory.
        out: PathBuf,
        /// The property that differs: `log`, `format` or `filter`.
        what: &'static str,
        /// The value in the directory.
        found: String,
        /// The value of the new export.
        wanted: String,
    },
    /// The directory holds partitions, but no manifest describes them.
    #[error(
        "{out} holds partitions (date=..) but no readable {name}: their origin is unknown; choose another \
         directory or empty this one",
        out = out.display(),
        name = MANIFEST_NAME
    )]
    Foreign {
        /// The directory.
        out: PathBuf,
    },
    /// Another export is writing to the directory.
    #[error(
        "{out} is in use: another export is writing there; wait for it or choose another directory",
        out = out.display()
    )]
    Busy {
        /// The directory.
        out: PathBuf,
    },
    /// The directory of the export and the archive contain one another.
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
    /// The segment does not exist or was removed.
    #[error("the archive {dir} has no segment that begins at offset {base}", dir = dir.display())]
    Gone {
        /// The archive's directory.
        dir: PathBuf,
        /// Offset of the first frame.
        base: u64,
    },
    /// Recovery or retention changed the segment during the export.
    #[error("the segment that begins at offset {base} changed while it was exported; export it again")]
    Changed {
        /// Offset of its first frame.
        base: u64,
    },
    /// The caller stopped the export.
    #[error("the export was stopped")]
    Stopped,
    /// The Parquet library refused the data.
    #[error("cannot write {path} as Parquet: {source}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The error of the library.
        source: ParquetError,
    },
}

impl From<StorageError> for ExportError {
    fn from(error: StorageError) -> Self {
        Self::Read(error.into())
    }
}

impl ExportError {
    /// Whether the disk or a quota is full. The condition is temporary.
    #[must_use]
    pub const fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    /// Makes the error of an operation on `path`: [`Self::NoSpace`] if more space would help, else [`Self::Io`].
    pub(super) fn of_file(op: &'static str, path: &Path, need: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        if archive::is_no_space(&source) {
            let free = free_bytes(&path);
            return Self::NoSpace { path, need, free };
        }
        Self::Io { op, path, source }
    }

    /// Makes the error of a Parquet operation. Uses the I/O error inside `source` if there is one.
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

/// Returns the free bytes of the file system of `path`, which may not exist. Returns 0 if that is unknown.
pub(super) fn free_bytes(path: &Path) -> u64 {
    let existing = path.ancestors().find(|path| path.exists());
    let stats = existing.and_then(|path| rustix::fs::statvfs(path).ok());
    stats.map_or(0, |stats| stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Says what the operator can do about `error`.
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
