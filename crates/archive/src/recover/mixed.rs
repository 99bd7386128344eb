//! Detects segments of another archive in the directory.
//!
//! The start checks the newest segment, the one before it, and the oldest. A copied segment usually lies at one end of
//! the log. Without this check the start would then announce positions and offsets of the other log. Maintenance checks
//! all other segments.

use crate::OpenError;
use crate::storage::dir::Dir;

/// Refuses a directory whose newest segment belongs to another log than the segment before it or the oldest segment.
///
/// Skips a segment with a damaged header or one that cannot be opened, and checks the next one instead. This also
/// detects a copy that was cut short in its last file.
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

/// The first of `bases` whose header is sound, with the id of its log. Takes the bases up to there from the iterator.
fn first_known<'a>(dir: &Dir, mut bases: impl Iterator<Item = &'a u64>) -> Option<(u64, u64)> {
    bases.find_map(|base| Some((*base, dir.scan(*base).ok()?.sound_header()?.log_id)))
}
