//! Compares the indexes of a directory with their segments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::names::index_name;
use crate::read::index::{self, IndexState};
use crate::read::segments::list_without_misnamed;
use crate::storage::dir::Dir;
use crate::{DiskStorage, StorageError};

/// An index and how it compares with its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedIndex {
    /// The index file. It may be missing.
    pub path: PathBuf,
    /// The result of the comparison.
    pub state: IndexState,
}

/// Compares the index of each sealed segment in `dir` with the index that the segment should have, oldest first.
///
/// Each step of the iterator reads one segment in full. Skips the newest segment, which has no index while it is
/// written. Skips segments whose headers contradict their names.
///
/// # Errors
/// [`StorageError`] if the directory cannot be listed. Items: [`StorageError`] if a segment or an index cannot be read.
pub fn check_indexes(
    dir: &Path,
) -> Result<impl Iterator<Item = Result<CheckedIndex, StorageError>> + use<>, StorageError> {
    let mut bases = list_without_misnamed(&DiskStorage, dir)?;
    bases.pop();
    let dir = Dir::new(Arc::new(DiskStorage), dir.to_owned());
    let check = move |base: u64| {
        let state = index::check(&dir, base)?;
        Ok(CheckedIndex { path: dir.path.join(index_name(base)), state })
    };
    Ok(bases.into_iter().map(check))
}
