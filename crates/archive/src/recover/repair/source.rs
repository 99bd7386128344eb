//! The segments of the damaged archive, in the order of the log.

use std::path::PathBuf;

use crate::ReadError;
use crate::read::scan::{HeaderState, Scanner};
use crate::storage::dir::Dir;

/// A segment to copy from.
pub(super) struct Source {
    /// The file.
    pub(super) path: PathBuf,
    /// Offset of the first frame: from the header, or from the name if the header is damaged.
    pub(super) base: u64,
    /// Base of the next segment, which supersedes the frames from this offset on. `None` for the newest segment.
    pub(super) end: Option<u64>,
}

/// What the directory holds.
pub(super) struct Sources {
    /// The segments to copy, ordered by their bases.
    pub(super) segments: Vec<Source>,
    /// The id of their log; `None` if no header is sound.
    pub(super) log_id: Option<u64>,
    /// Segments of another log.
    pub(super) foreign: Vec<PathBuf>,
}

/// Reads the header of each segment of `dir`. The newest sound header determines the id of the log.
pub(super) fn sources(dir: &Dir) -> Result<Sources, ReadError> {
    let mut found = Vec::new();
    for name in dir.segments()? {
        let path = dir.segment(name);
        match Scanner::open(&*dir.storage, &path)?.header() {
            HeaderState::Sound(header) => found.push((header.base_offset, path, Some(header.log_id))),
            HeaderState::Damaged => found.push((name, path, None)),
            HeaderState::Version(version_found) => {
                return Err(ReadError::Version { path, found: version_found });
            }
        }
    }
    // If two segments have the same offset, the one whose name matches the offset comes last and supersedes the other.
    found.sort_by_key(|(base, path, _)| (*base, *path == dir.segment(*base)));
    let log_id = found.iter().rev().find_map(|(_, _, log_id)| *log_id);
    let is_foreign = |id: &Option<u64>| id.is_some() && *id != log_id;
    let (foreign, own): (Vec<_>, Vec<_>) = found.into_iter().partition(|(.., id)| is_foreign(id));
    let ends: Vec<_> = own.iter().skip(1).map(|(base, ..)| Some(*base)).chain([None]).collect();
    let segments = own.into_iter().zip(ends).map(|((base, path, _), end)| Source { path, base, end });
    Ok(Sources {
        segments: segments.collect(),
        log_id,
        foreign: foreign.into_iter().map(|(_, path, _)| path).collect(),
    })
}
