//! The index of a sealed segment: where the frames of each source lie, so that a query reads few other frames.
//!
//! `<base offset, 20 digits>.idx` beside the segment. It is derived from the segment alone and can be deleted at any
//! time: without a valid index, a reader scans the segment and finds the same frames. A reader trusts nothing in an
//! index. Each part carries a checksum (CRC-32C). Each extent carries one too, because the checksum of a block cannot
//! check a part of the block. All integers are little-endian, reserved bytes are zero. Version 1.
//!
//! `header | chunk table | directory | extent lists`, without gaps, and nothing after them.
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
//! | 48 | lists_len u64 | bytes of all extent lists |
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
//! | 48 | extents_len u64 | bytes of the segment that its extents cover |
//! | 56 | list_at u64 | where its extent list lies in this file |
//! | 64 | list_len u64 | bytes of the extent list; 0: the list would be too long, and readers scan |
//! | 72 | list_crc u32 | |
//! | 76 | reserved u32 | |
//! | 80 | station | |
//!
//! An *extent* is a range of bytes of one block that begins and ends with a frame of that origin and lane. Frames up to
//! 1 KiB apart share an extent of up to 64 KiB. A reader recognises other frames in between by their headers and skips
//! them. For each extent, in the order of the log, an extent list has four numbers (LEB128) and a checksum:
//!
//! `position, from the end of the extent before, at first from 0 | length | first offset, from that of the extent
//! before, at first from base_offset | number of the origin in the block's table | crc u32 of the extent's bytes`
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

use crate::format::SegmentHeader;
use crate::format::names::index_name;
use crate::storage::dir::Dir;
use crate::storage::{Access, Context, Storage, StorageError};

pub(crate) use build::{Builder, Content, PendingIndex};
pub(crate) use layout::Header;
pub(crate) use merge::ChunkRange;
pub(crate) use merge::Merge;
pub(crate) use open::{Index, Plan};
pub(crate) use walk::walk;

/// Most bytes of indexes that a reader holds: tables and extent lists of the segment that it reads.
pub const READER_BYTES: u64 = open::TABLES_BYTES_MAX + open::LISTS_BYTES_MAX;
/// Most bytes that building an index takes: its extent lists, and the same amount while they grow.
pub const BUILD_BYTES: u64 = 2 * build::LISTS_BYTES_MAX as u64;
/// Most bytes of all indexes that wait to be written: one of the largest size, or hundreds of the usual size.
pub(crate) const PENDING_BYTES_MAX: usize = BUILD_BYTES as usize;

/// Why a segment has no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoIndex {
    /// The segment is the newest, or retention has removed it.
    NotSealed,
    /// The segment is damaged. Readers scan it, so that they report what is missing.
    Damaged,
    /// The segment has more origins than an index may have. Readers scan it.
    TooManyOrigins,
    /// `is_stopped` ended the walk.
    Stopped,
}

/// Returns whether the segment `base` has an index that readers accept. Reads three headers, not the content.
pub(crate) fn is_sound(dir: &Dir, base: u64) -> Result<bool, StorageError> {
    let scanner = match dir.scan(base) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(false),
        result => result?,
    };
    let Some(segment) = scanner.sound_header() else {
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
pub(crate) fn check(dir: &Dir, base: u64) -> Result<IndexState, StorageError> {
    let path = dir.path.join(index_name(base));
    let file = match dir.open(&path, Access::Read) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(IndexState::Missing),
        result => result?,
    };
    let Ok(content) = walk(dir, base, &|| false)? else {
        return Ok(IndexState::NotNeeded);
    };
    let same = file.size().context("measure", &path)? == content.len()
        && open::has_content(&*file, content.parts()).context("read", &path)?;
    Ok(if same { IndexState::Matches } else { IndexState::Differs })
}

/// The header of the index of `segment`, if the index exists and matches the segment.
pub(crate) fn header(
    storage: &dyn Storage,
    dir: &Path,
    segment: &SegmentHeader,
    segment_len: u64,
) -> Option<Header> {
    Index::open(storage, dir, segment, segment_len).map(|index| index.header)
}
