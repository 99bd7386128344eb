//! The index of a sealed segment: where the frames of each source lie, so that a query reads little else.
//!
//! `<base offset, 20 digits>.idx` beside the segment. It is derived from the segment alone and can be deleted at any
//! time: a reader without it, or with one that does not check out, scans the segment and finds the same. So nothing
//! in it is trusted; each part carries a checksum (CRC-32C), and so does each run, since the checksum of a block says
//! nothing about a part of it. All integers are little-endian, reserved bytes are zero. Version 1.
//!
//! `header | chunk table | directory | run lists`, without gaps, and nothing behind.
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
//! A *run* is a range of bytes of one block that begins and ends with a frame of that origin and lane. Frames up to
//! 1 KiB apart share a run of up to 64 KiB; others in between are told by their headers and passed over. A run list has
//! for each run, in the order of the log, four numbers (LEB128) and a checksum:
//!
//! `position, from the end of the run before, at first from 0 | length | first offset, from that of the run before,
//! at first from base_offset | number of the origin in the block's table | crc u32 of the run's bytes`
//!
//! `build` makes an index of blocks one after the other: those that the commit thread has just made durable, while it
//! still holds them, or those that `walk` reads from a sealed segment where nobody saw them all being written. Both come
//! to the same bytes.

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

/// What a reader holds of indexes at most, in bytes: tables and run lists of the segment it reads.
pub const READER_BYTES: u64 = open::TABLES_BYTES_MAX + open::LISTS_BYTES_MAX;
/// What building an index takes at most, in bytes: its run lists, and as much while they grow.
pub const BUILD_BYTES: u64 = 2 * build::LISTS_BYTES_MAX as u64;
/// What indexes that wait to be written take together at most, in bytes: the largest, or hundreds as they mostly are.
pub(super) const READY_BYTES_MAX: usize = BUILD_BYTES as usize;

/// What became of the wish for an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Built {
    /// It is in place and durable.
    Written {
        /// Length of its file.
        bytes: u64,
    },
    /// The disk is too full for it; nothing is left of the attempt. Worth another one when there is space.
    NoSpace,
    /// The segment is damaged: readers scan it, so that they say what is missing.
    Damaged,
    /// More origins than an index may have: readers scan the segment.
    TooManyOrigins,
    /// The segment is the newest, or retention has removed it.
    NotSealed,
    /// It was called off.
    Stopped,
}

/// What an index has to give way to.
pub(super) struct BuildLimits<'a> {
    /// Space on the disk that it must leave to the log.
    pub(super) spare_bytes: u64,
    /// Whether to stop; asked before each block.
    pub(super) is_stopped: &'a dyn Fn() -> bool,
}

impl BuildLimits<'_> {
    /// Where nobody waits for anything.
    pub(super) const NONE: Self = Self { spare_bytes: 0, is_stopped: &|| false };
}

/// [`build_from`] a walk alone.
pub(super) fn build(dir: &Dir, base: u64, limits: &BuildLimits<'_>) -> Result<Built, StorageError> {
    build_from(dir, base, limits, || None)
}

/// Writes the index of the sealed segment `base`, in place of one that may be there: the one that `ready` returns, or what
/// a walk makes where there is none, or it does not fit the file.
///
/// One walk over the segment; in memory are the index itself, of which the run lists are bounded, and one block.
/// A crash leaves at most a file `.idx.tmp`, see [`Dir::remove_stale`]. Only one may build in a directory at a time:
/// whoever holds its lock.
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
            // A part of it would only keep space from the log.
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

/// Whether the segment `base` has an index that readers will take: a look at three headers, not at the content.
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
    /// It is what a new one would be.
    Matches,
    /// There is none.
    Missing,
    /// It is not what a new one would be.
    Differs,
    /// The segment can have none, as it is damaged or has too many origins, or the segment is gone.
    NotNeeded,
}

/// Reads the segment `base` and compares its index with what a new one would be, byte by byte.
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
        && open::is_content(&*file, content.parts()).context("read", &path)?;
    Ok(if same { IndexState::Matches } else { IndexState::Differs })
}

/// Writes the missing indexes of the archive in `dir`, which no daemon may have open; a running daemon does so by itself.
///
/// Returns how many were written. Segments that are damaged are passed over, and so is what a full disk has no room for.
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

/// The header of the index of `segment`, if it is there and matches.
pub(super) fn header(
    storage: &dyn Storage,
    dir: &Path,
    segment: &SegmentHeader,
    segment_len: u64,
) -> Option<Header> {
    Index::open(storage, dir, segment, segment_len).map(|index| index.header)
}
