//! Segments under wrong names: what the commands say of them.

use std::path::Path;

use super::CommandError;
use crate::dir::{list_segments, misnamed, segment_name};
use crate::scan::{Scanner, Step};
use crate::{DiskStorage, Misnamed, StorageError};

/// All there are in `dir`.
pub(super) fn all(dir: &Path) -> Result<Vec<Misnamed>, StorageError> {
    let of = |base: u64| {
        let header_offset = misnamed(&DiskStorage, dir, base)?;
        Some(Misnamed { segment: dir.join(segment_name(base)), name_offset: base, header_offset })
    };
    Ok(list_segments(&DiskStorage, dir)?.into_iter().filter_map(of).collect())
}

/// Says which file it is, what its header says, and the way out.
pub fn told(found: &Misnamed) -> String {
    let Misnamed { segment, name_offset, header_offset } = found;
    let way_out = if is_duplicate(found) {
        format!("{} has that offset: move this one out of the archive", segment_name(*header_offset))
    } else {
        "archive repair recovers its frames".to_owned()
    };
    format!(
        "misnamed: {} begins at offset {header_offset} by its header and at {name_offset} by its name, and was not read; \
         {way_out}",
        segment.display()
    )
}

/// Whether another segment bears the name that this one should have, and is read.
pub fn is_duplicate(found: &Misnamed) -> bool {
    let dir = found.segment.parent().unwrap_or(Path::new("."));
    let name = dir.join(segment_name(found.header_offset));
    name.exists() && misnamed(&DiskStorage, dir, found.header_offset).is_none()
}

/// How many offsets it holds that are nowhere else, as far as its blocks can be read.
pub(super) fn hidden_offsets(found: &Misnamed) -> Result<u64, StorageError> {
    if is_duplicate(found) {
        return Ok(0);
    }
    let mut scanner = Scanner::open(&DiskStorage, &found.segment)?;
    let mut end = found.header_offset;
    loop {
        match scanner.next()? {
            Step::Block(header, _) => end = end.max(header.next_offset()),
            Step::Damage(_) => {}
            Step::End(_) => return Ok(end - found.header_offset),
        }
    }
}

/// Names all of them on stderr, for commands that write frames.
///
/// # Errors
/// [`CommandError::Misnamed`] if one of them holds frames that are missing from the output.
#[allow(clippy::print_stderr, reason = "command output")]
pub(super) fn note(found: &[Misnamed]) -> Result<(), CommandError> {
    for one in found {
        eprintln!("telemetry-aggregator: {}", told(one));
    }
    match found.iter().find(|one| !is_duplicate(one)) {
        Some(one) => Err(CommandError::Misnamed(one.segment.clone())),
        None => Ok(()),
    }
}
