//! The index of a sealed segment: where the frames of each source lie, so that a query reads few other frames.
//!
//! `<base offset, 20 digits>.idx` beside the segment. It is derived from the segment alone and can be deleted at any
//! time: without a valid index, a reader scans the segment and finds the same frames. A reader trusts nothing in an
//! index. Each part carries a checksum (CRC-32C). Each run carries one too, because the checksum of a block cannot
//! check a part of the block. All integers are little-endian, reserved bytes are zero. Version 1.
//!
//! `header | chunk table | directory | run lists`, without gaps, and nothing after them.
//!
//! | at | header, 96 bytes | |
//! |---|---|---|
//! | 0 | magic, 8 bytes | `TMAINDEX` |
//! | 8 | version u16 | 1 |
//! | 10 | reserved u16 | |
//! | 12 | chunk_count u32 | |
//! | 16 | segment_id u64 | of the segment |
//! | 24 | base_offset u64 | of the segment |
//! | 32 | next_offset u64 | behind its last frame: the base of the next segment |
//! | 40 | covered u64 | length of the segment's file |
//! | 48 | lists_len u64 | bytes of all run lists |
//! | 56 | received_min_ns i64 | earliest `received_ns` of its frames |
//! | 64 | received_max_ns i64 | latest; neither follows from the order of the log |
//! | 72 | entry_count u32 | entries of the directory |
//! | 76 | directory_len u32 | bytes of the directory |
//! | 80 | tables_crc u32 | of chunk table and directory |
//! | 84 | reserved, 8 bytes | |
//! | 92 | crc u32 | of bytes 0..92 |
//!
//! A *chunk* is a range of whole blocks of about 1 MiB. It reaches to the next chunk, the last one to `covered`.
//!
//! | at | chunk, 32 bytes | |
//! |---|---|---|
//! | 0 | position u64 | of its first block, which holds frames |
//! | 8 | first_offset u64 | of that block |
//! | 16 | received_min_ns i64 | of its frames |
//! | 24 | received_max_ns i64 | of its frames |
//!
//! The directory has an entry for each origin and lane, ordered by source, kind, station, epoch and lane.
//!
//! | at | entry, 80 bytes and the station | |
//! |---|---|---|
//! | 0 | origin, 16 bytes | as in the origin table of a block |
//! | 16 | priority u8 | |
//! | 17 | reserved, 7 bytes | |
//! | 24 | frames u64 | |
//! | 32 | received_min_ns i64 | |
//! | 40 | received_max_ns i64 | |
//! | 48 | runs_len u64 | bytes of the segment that its runs cover |
//! | 56 | list_at u64 | where its run list lies in this file |
//! | 64 | list_len u64 | bytes of the run list; 0: the list would be too long, and readers scan |
//! | 72 | list_crc u32 | |
//! | 76 | reserved u32 | |
//! | 80 | station | |
//!
//! A *run* is a range of bytes of one block that begins and ends with a frame of that origin and lane. Frames up to 1
//! KiB apart share a run of up to 64 KiB. A reader recognises other frames in between by their headers and skips them.
//! For each run, in the order of the log, a run list has four numbers (LEB128) and a checksum:
//!
//! `position, from the end of the run before, at first from 0 | length | first offset, from that of the run before,
//! at first from base_offset | number of the origin in the block's table | crc u32 of the run's bytes`
//!
//! `build` makes an index from blocks, one after the other. The commit thread gives it each block that it has just made
//! durable and still holds in memory. If the commit thread has not written all blocks of a segment, `walk` reads them
//! from the sealed segment. Both ways give the same bytes.

mod build;
mod layout;
mod merge;
mod open;
#[cfg(test)]
mod tests;
mod walk;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::OpenError;
use super::dir::{Dir, UNFINISHED_INDEX};
use super::format::SegmentHeader;
use super::scan::Head;
use super::storage::{Access, Context, Storage, StorageError, write_all_at};
use build::Content;
use walk::Walked;

pub(super) use build::{Builder, Ready};
pub(super) use layout::Header;
pub(super) use merge::Merge;
pub(super) use merge::Span;
pub(super) use open::{Index, Plan};

/// Name of the index of the segment `base`.
pub(super) fn index_name(base: u64) -> String {
    format!("{base:020}.idx")
}

/// Most bytes of indexes that a reader holds: tables and run lists of the segment that it reads.
pub const READER_BYTES: u64 = open::TABLES_BYTES_MAX + open::LISTS_BYTES_MAX;
/// Most bytes that building an index takes: its run lists, and the same amount while they grow.
pub const BUILD_BYTES: u64 = 2 * build::LISTS_BYTES_MAX as u64;
/// Most bytes of all indexes that wait to be written: one of the largest size, or hundreds of the usual size.
pub(super) const READY_BYTES_MAX: usize = BUILD_BYTES as usize;

/// The result of an attempt to write an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Built {
    /// The index is in place and durable.
    Written {
        /// Length of its file.
        bytes: u64,
    },
    /// The disk has no space for the index. The attempt leaves no file and can be repeated when there is space.
    NoSpace,
    /// The segment is damaged. Readers scan it, so that they report what is missing.
    Damaged,
    /// The segment has more origins than an index may have. Readers scan it.
    TooManyOrigins,
    /// The segment is the newest, or retention has removed it.
    NotSealed,
    /// `is_stopped` ended the attempt.
    Stopped,
}

/// The limits under which an index is built.
pub(super) struct BuildLimits<'a> {
    /// Bytes on the disk that must stay free for the log.
    pub(super) spare_bytes: u64,
    /// Returns whether to stop. Called before each block.
    pub(super) is_stopped: &'a dyn Fn() -> bool,
}

impl BuildLimits<'_> {
    /// No limits.
    pub(super) const NONE: Self = Self { spare_bytes: 0, is_stopped: &|| false };
}

/// Like [`build_from`], but always walks the segment.
pub(super) fn build(dir: &Dir, base: u64, limits: &BuildLimits<'_>) -> Result<Built, StorageError> {
    build_from(dir, base, limits, || None)
}

/// Writes the index of the sealed segment `base` and replaces an older one.
///
/// Takes the index that `ready` returns. If there is none, or it does not cover the whole file, builds the index by one
/// walk over the segment. The walk holds the index, whose run lists are bounded, and one block in memory. A crash
/// leaves at most a file `.idx.tmp`, see [`Dir::remove_stale`]. Only the holder of the lock of a directory may build
/// indexes there, one at a time.
pub(super) fn build_from(
    dir: &Dir,
    base: u64,
    limits: &BuildLimits<'_>,
    ready: impl FnOnce() -> Option<Ready>,
) -> Result<Built, StorageError> {
    let is_short = |bytes: u64| Ok(dir.free_bytes()? < bytes.saturating_add(limits.spare_bytes));
    if is_short(0)? {
        return Ok(Built::NoSpace);
    }
    if (limits.is_stopped)() {
        return Ok(Built::Stopped);
    }
    let len = dir.size(&dir.segment(base))?;
    let content = match ready().filter(|ready| ready.covered() == len) {
        Some(ready) => ready.content(),
        None => match walk(dir, base, limits)? {
            Walk::Content(content) => content,
            Walk::Without(why) => return Ok(why),
        },
    };
    if is_short(content.len())? {
        return Ok(Built::NoSpace);
    }
    let passing = dir.side_file(base, UNFINISHED_INDEX);
    match install(dir, base, &passing, &content) {
        Ok(()) => Ok(Built::Written { bytes: content.len() }),
        Err(error) if error.is_no_space() => {
            // A partial index would take space that the log needs.
            dir.remove(&passing)?;
            Ok(Built::NoSpace)
        }
        Err(error) => Err(error),
    }
}

enum Walk {
    Content(Content),
    Without(Built),
}

fn walk(dir: &Dir, base: u64, limits: &BuildLimits<'_>) -> Result<Walk, StorageError> {
    let Some(next) = dir.next_segment(base)? else {
        return Ok(Walk::Without(Built::NotSealed));
    };
    let mut scanner = match dir.scan(base) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => {
            return Ok(Walk::Without(Built::NotSealed));
        }
        result => result?,
    };
    Ok(match walk::walk(&mut scanner, base, next, limits.is_stopped)? {
        Walked::Content(content) => Walk::Content(content),
        Walked::Damaged => Walk::Without(Built::Damaged),
        Walked::TooManyOrigins => Walk::Without(Built::TooManyOrigins),
        Walked::Stopped => Walk::Without(Built::Stopped),
    })
}

fn install(dir: &Dir, base: u64, passing: &Path, content: &Content) -> Result<(), StorageError> {
    let file = dir.open(passing, Access::Create)?;
    let mut at = 0;
    for part in content.parts() {
        write_all_at(&*file, part, at).context("write", passing)?;
        at += part.len() as u64;
    }
    file.sync_data().context("sync", passing)?;
    dir.rename(passing, &dir.path.join(index_name(base)))?;
    dir.sync()
}

/// Returns whether the segment `base` has an index that readers accept. Reads three headers, not the content.
pub(super) fn is_sound(dir: &Dir, base: u64) -> Result<bool, StorageError> {
    let scanner = match dir.scan(base) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(false),
        result => result?,
    };
    let Head::Sound(segment) = scanner.head() else {
        return Ok(false);
    };
    Ok(Index::open(&*dir.storage, &dir.path, &segment, scanner.size()?).is_some())
}

/// How an index compares with its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// The index equals a newly built one.
    Matches,
    /// There is no index.
    Missing,
    /// The index differs from a newly built one.
    Differs,
    /// The segment can have no index: it is damaged, has too many origins, or is gone.
    NotNeeded,
}

/// Reads the segment `base` and compares its index byte by byte with a newly built one.
pub(super) fn check(dir: &Dir, base: u64) -> Result<IndexState, StorageError> {
    let path = dir.path.join(index_name(base));
    let file = match dir.open(&path, Access::Read) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(IndexState::Missing),
        result => result?,
    };
    let content = match walk(dir, base, &BuildLimits::NONE)? {
        Walk::Content(content) => content,
        Walk::Without(_) => return Ok(IndexState::NotNeeded),
    };
    let same = file.size().context("measure", &path)? == content.len()
        && open::has_content(&*file, content.parts()).context("read", &path)?;
    Ok(if same { IndexState::Matches } else { IndexState::Differs })
}

/// Writes the missing indexes of the archive in `path`, which no daemon may have open. A running daemon writes them
/// itself.
///
/// Returns the number of indexes written. Skips damaged segments, and indexes for which the disk has no space.
///
/// # Errors
/// [`OpenError::Locked`] while a daemon runs, [`OpenError::Storage`] when the directory or a segment cannot be read.
pub fn build_indexes(storage: Arc<dyn Storage>, path: &Path) -> Result<usize, OpenError> {
    let _lock = storage.lock(path).map_err(|source| {
        if source.kind() == ErrorKind::WouldBlock {
            return OpenError::Locked(path.to_owned());
        }
        StorageError { op: "lock", path: path.to_owned(), source }.into()
    })?;
    let dir = Dir::new(storage, path.to_owned());
    dir.remove_stale(&dir.list()?)?;
    let mut written = 0;
    for base in dir.segments()? {
        if !is_sound(&dir, base)? && matches!(build(&dir, base, &BuildLimits::NONE)?, Built::Written { .. }) {
            written += 1;
        }
    }
    Ok(written)
}

/// The header of the index of `segment`, if the index exists and matches the segment.
pub(super) fn header(
    storage: &dyn Storage,
    dir: &Path,
    segment: &SegmentHeader,
    segment_len: u64,
) -> Option<Header> {
    Index::open(storage, dir, segment, segment_len).map(|index| index.header)
}
