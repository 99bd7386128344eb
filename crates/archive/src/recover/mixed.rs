//! Segments of another archive that were put into the directory.
//!
//! The start looks at the newest, at the one before, and at the oldest: a copy lies at an end in most cases, and then
//! positions and offsets of the other log would be announced. Maintenance looks at all others.

use crate::OpenError;
use crate::dir::Dir;
use crate::scan::Head;

/// Refuses a directory whose newest segment is of another log than the one before, or than the oldest.
///
/// A segment whose header is damaged, or that cannot be opened, tells nothing: then the next one is looked at. So a copy
/// that broke off in its last file is found out as well.
pub(super) fn refuse(dir: &Dir, bases: &[u64]) -> Result<(), OpenError> {
    let mut known = bases.iter();
    let Some((newest, log_id)) = first_known(dir, known.by_ref().rev()) else {
        return Ok(());
    };
    let older = known.as_slice();
    let others = [first_known(dir, older.iter().rev()), first_known(dir, older.iter())];
    match others.into_iter().flatten().find(|(_, other)| *other != log_id) {
        None => Ok(()),
        Some((base, other_log_id)) => Err(OpenError::Mixed {
            path: dir.segment(newest),
            log_id,
            other: dir.segment(base),
            other_log_id,
        }),
    }
}

fn first_known<'a>(dir: &Dir, mut bases: impl Iterator<Item = &'a u64>) -> Option<(u64, u64)> {
    bases.find_map(|base| Some((*base, log_id(dir, *base)?)))
}

/// The log of the segment `base`, if its header tells it.
fn log_id(dir: &Dir, base: u64) -> Option<u64> {
    match dir.scan(base).ok()?.head() {
        Head::Sound(header) => Some(header.log_id),
        Head::Damaged | Head::Version(_) => None,
    }
}
