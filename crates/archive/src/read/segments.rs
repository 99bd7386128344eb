//! The segments that a directory holds under the right names.

use std::path::Path;

use super::scan::Scanner;
use crate::format::names::segment_name;
use crate::storage::dir::{Dir, list_segments};
use crate::storage::{Storage, StorageError};

/// Returns the base offset in the header of the segment `base` in `dir`, if the header is sound and contradicts the
/// name.
pub(crate) fn misnamed(storage: &dyn Storage, dir: &Path, base: u64) -> Option<u64> {
    let header = Scanner::open(storage, &dir.join(segment_name(base))).ok()?.sound_header()?;
    (header.base_offset != base).then_some(header.base_offset)
}

/// As [`list_segments`], without segments whose headers contradict their names.
pub(crate) fn list_without_misnamed(storage: &dyn Storage, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let mut bases = list_segments(storage, dir)?;
    bases.retain(|base| misnamed(storage, dir, *base).is_none());
    Ok(bases)
}

impl Dir {
    /// The next segment after `base`. Segments whose headers contradict their names are skipped.
    pub(crate) fn next_segment(&self, base: u64) -> Result<Option<u64>, StorageError> {
        let is_well_named = |next: &u64| misnamed(&*self.storage, &self.path, *next).is_none();
        Ok(self.segments()?.into_iter().filter(|next| *next > base).find(is_well_named))
    }

    pub(crate) fn scan(&self, base: u64) -> Result<Scanner, StorageError> {
        Scanner::open(&*self.storage, &self.segment(base))
    }
}
