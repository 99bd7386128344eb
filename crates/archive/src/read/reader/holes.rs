//! Reads the holes that recovery records in the next segment.

use std::ops::Range;
use std::path::Path;

use super::Reader;
use crate::config::HOLES_MAX;
use crate::format::names::segment_name;
use crate::format::{BlockKind, HoleRecord};
use crate::read::scan::{ScanStep, Scanner};
use crate::storage::{Storage, StorageError};

impl Reader {
    /// Whether the segment behind the open one records that all of `offsets` are lost.
    pub(super) fn is_recorded(&mut self, offsets: &Range<u64>) -> bool {
        if offsets.is_empty() {
            return false;
        }
        // The result only changes what is reported to operators. So an unreadable record counts as no record.
        let bases = self.list().unwrap_or_default();
        let Some(base) = self.segment.as_ref().map(|open| open.base) else {
            return false;
        };
        let Some(next) = self.next_segment(&bases, base) else {
            return false;
        };
        let Some(open) = &mut self.segment else {
            return false;
        };
        let (storage, path) = (&*self.storage, self.dir.join(segment_name(next)));
        let records = open.holes.get_or_insert_with(|| recorded_in(storage, &path).unwrap_or_default());
        records.iter().any(|record| record.covers(offsets))
    }
}

/// Returns the holes that the segment `path` records before its first frame. Each start of the daemon adds its own
/// records.
fn recorded_in(storage: &dyn Storage, path: &Path) -> Result<Vec<HoleRecord>, StorageError> {
    let mut scanner = Scanner::open(storage, path)?;
    let mut records = Vec::new();
    while records.len() < 2 * HOLES_MAX {
        match scanner.next()? {
            ScanStep::Block(header, _) if header.kind == BlockKind::Frames => break,
            ScanStep::Block(header, body) if header.kind == BlockKind::Hole => {
                records.extend(HoleRecord::decode(&body));
            }
            ScanStep::Block(..) | ScanStep::Damage(_) => {}
            ScanStep::End(_) => break,
        }
    }
    Ok(records)
}
