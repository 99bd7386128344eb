//! Handles segments of another archive in the directory: maintenance moves them to `lost/` and counts them there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::Maintenance;
use crate::storage::dir::Listing;
use crate::storage::{Context, StorageError};

/// File name ending of a segment that was set aside.
const ENDING: &str = ".foreign";

impl Maintenance {
    /// Moves the segments of other logs to `lost/`, and returns their bases.
    ///
    /// Checks each segment once. A segment with a damaged header counts as damage and stays.
    pub(super) fn move_foreign_to_lost(&mut self, listing: &Listing) -> Result<BTreeSet<u64>, StorageError> {
        let mut foreign = BTreeSet::new();
        for base in listing.segments.iter().copied().filter(|base| !self.segments.is_checked(*base)) {
            let path = self.dir.segment(base);
            match self.dir.scan(base).map(|scanner| scanner.sound_header()) {
                Ok(Some(header)) if header.log_id != self.log_id => {
                    self.move_to_lost(&path, &format!("{base:020}-{:016x}{ENDING}", header.segment_id))?;
                    foreign.insert(base);
                }
                Err(error) if error.is_too_many_files() => return Err(error),
                // The reader of an unreadable segment reports the damage.
                Ok(_) | Err(_) => {}
            }
        }
        for name in &listing.beyond_offsets {
            self.move_to_lost(&self.dir.path.join(name), &format!("{name}{ENDING}"))?;
        }
        self.count_foreign()?;
        Ok(foreign)
    }

    fn move_to_lost(&self, path: &Path, name: &str) -> Result<(), StorageError> {
        let kept_as = self.dir.lost().join(name);
        self.dir.move_to_lost(path, &kept_as)?;
        // The segment is counted before the log names it.
        self.count_foreign()?;
        tracing::error!(
            segment = %path.display(),
            kept_as = %kept_as.display(),
            "a segment of another archive was found here and moved to lost/; if it replaced a segment of this archive, the \
             frames of that segment are missing; find out what copies files into this directory"
        );
        Ok(())
    }

    /// Counts the files that were set aside and are still in `lost/`.
    fn count_foreign(&self) -> Result<(), StorageError> {
        let lost = self.dir.lost();
        let names = match self.dir.storage.list(&lost) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            names => names.context("list", &lost)?,
        };
        let count = names.iter().filter(|name| name.ends_with(ENDING)).count();
        self.published.stats.foreign_segments.store(count as u64, Relaxed);
        Ok(())
    }
}
