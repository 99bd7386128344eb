//! What recovery says about the segment before.

use std::path::Path;

use crate::archive::config::HOLES_MAX;
use crate::archive::format::{BlockKind, HoleRecord};
use crate::archive::scan::{Scanner, Step};
use crate::archive::storage::{Storage, StorageError};

/// The holes that the segment `path` records before its first frame: recovery puts them there, one start at a time.
pub(super) fn recorded_in(storage: &dyn Storage, path: &Path) -> Result<Vec<HoleRecord>, StorageError> {
    let mut scanner = Scanner::open(storage, path)?;
    let mut records = Vec::new();
    while records.len() < 2 * HOLES_MAX {
        match scanner.next()? {
            Step::Block(header, _) if header.kind == BlockKind::Frames => break,
            Step::Block(header, body) if header.kind == BlockKind::Hole => {
                records.extend(HoleRecord::decode(&body));
            }
            Step::Block(..) | Step::Damage(_) => {}
            Step::End(_) => break,
        }
    }
    Ok(records)
}
