//! The segments of an archive's directory, for programs that go through them file by file.

use std::io;
use std::path::Path;

use crate::dir;
use crate::scan::{Head, Scanner, Step};
use crate::{DiskStorage, StorageError};

/// Name of the segment whose first frame has offset `base`.
#[must_use]
pub fn segment_name(base: u64) -> String {
    dir::segment_name(base)
}

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
pub fn list_own_segments(dir: &Path) -> Result<Vec<u64>, StorageError> {
    dir::list_own_segments(&DiskStorage, dir)
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
                if let Head::Sound(header) = scanner?.head() {
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
    let mut scanner = Scanner::open(&DiskStorage, path)?;
    let mut end = base;
    loop {
        match scanner.next()? {
            Step::Block(header, _) => end = end.max(header.next_offset()),
            Step::Damage(_) => {}
            Step::End(_) => return Ok(end),
        }
    }
}
