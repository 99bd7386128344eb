//! The segments of an archive's directory, for programs that go through them file by file.

use std::io;
use std::path::Path;

use super::segments::end_of;
use crate::format::names::segment_name;
use crate::read::scan::Scanner;
use crate::read::segments;
use crate::storage::dir;
use crate::{DiskStorage, StorageError};

/// The bases of the segments in `dir`, ascending, by their names.
///
/// # Errors
/// [`StorageError`] when the directory cannot be listed.
pub fn list_segments(dir: &Path) -> Result<Vec<u64>, StorageError> {
    dir::list_segments(&DiskStorage, dir)
}

/// As [`list_segments`], without segments whose headers contradict their names.
///
/// # Errors
/// [`StorageError`] when the directory cannot be listed.
pub fn list_without_misnamed(dir: &Path) -> Result<Vec<u64>, StorageError> {
    segments::list_without_misnamed(&DiskStorage, dir)
}

/// The id of the log, from the first segment in `dir` with a sound header; `None` if there is no such segment.
///
/// # Errors
/// [`StorageError`] when a file cannot be read. A segment that is removed meanwhile is skipped.
pub fn log_id(dir: &Path) -> Result<Option<u64>, StorageError> {
    for base in list_segments(dir)? {
        match Scanner::open(&DiskStorage, &dir.join(segment_name(base))) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            scanner => {
                if let Some(header) = scanner?.sound_header() {
                    return Ok(Some(header.log_id));
                }
            }
        }
    }
    Ok(None)
}

/// Offset behind the last whole block of the segment `path`, whose first frame has offset `base`.
///
/// # Errors
/// [`StorageError`] when the file cannot be read.
pub fn end_offset(path: &Path, base: u64) -> Result<u64, StorageError> {
    end_of(Scanner::open(&DiskStorage, path)?, base)
}
