//! Finds segments whose headers contradict their names.

use std::path::Path;

use super::segments::end_of;
use crate::format::names::segment_name;
use crate::read::scan::Scanner;
use crate::read::segments::misnamed;
use crate::storage::dir::list_segments;
use crate::{DiskStorage, Misnamed, StorageError};

/// The segments in `dir` whose headers contradict their names, ordered by name.
///
/// # Errors
/// [`StorageError`] when the directory cannot be listed.
pub fn misnamed_segments(dir: &Path) -> Result<Vec<Misnamed>, StorageError> {
    let of = |base: u64| {
        let header_offset = misnamed(&DiskStorage, dir, base)?;
        Some(Misnamed { segment: dir.join(segment_name(base)), name_offset: base, header_offset })
    };
    Ok(list_segments(&DiskStorage, dir)?.into_iter().filter_map(of).collect())
}

impl Misnamed {
    /// A line for operators: the file, both offsets, and what to do. Reads the directory of the segment.
    #[must_use]
    pub fn explain(&self) -> String {
        let Self { segment, name_offset, header_offset } = self;
        let way_out = if self.is_duplicate() {
            format!("{} has that offset: move this one out of the archive", segment_name(*header_offset))
        } else {
            "archive repair recovers its frames".to_owned()
        };
        format!(
            "misnamed: {} begins at offset {header_offset} by its header and at {name_offset} by its name, and was not \
             read; {way_out}",
            segment.display()
        )
    }

    /// Whether another, readable segment has the name that this segment should have. Reads the directory of the
    /// segment.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        let dir = self.segment.parent().unwrap_or(Path::new("."));
        let name = dir.join(segment_name(self.header_offset));
        name.exists() && misnamed(&DiskStorage, dir, self.header_offset).is_none()
    }

    /// Returns how many offsets only this segment holds. Reads the segment and skips damage.
    ///
    /// # Errors
    /// [`StorageError`] when the segment cannot be read.
    pub fn hidden_offsets(&self) -> Result<u64, StorageError> {
        if self.is_duplicate() {
            return Ok(0);
        }
        let scanner = Scanner::open(&DiskStorage, &self.segment)?;
        Ok(end_of(scanner, self.header_offset)? - self.header_offset)
    }
}
