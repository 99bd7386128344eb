//! The archive's files, byte by byte. Version 1.
//!
//! All integers are little-endian. Checksums are CRC-32C (Castagnoli). Reserved bytes are zero. A reader checks them
//! only by the checksum, so that a later version can use them.
//!
//! # Segment
//!
//! `<base offset, 20 digits>.seg`: a segment header, then blocks without gaps between them. Each block starts at a
//! multiple of 8. Zeros may follow the last block (space allocated ahead of need).
//!
//! An *offset* is the number of a frame in the log. Frames at or above the base of the next segment are not part of the
//! log: the next segment replaces them. A crash while recovery rewrites a tail can leave such frames.
//!
//! | at | segment header, 64 bytes | |
//! |---|---|---|
//! | 0 | magic, 8 bytes | `TMASEGMT` |
//! | 8 | version u16 | 1 |
//! | 10 | reserved, 6 bytes | |
//! | 16 | log_id u64 | random, the same in all segments of a log |
//! | 24 | segment_id u64 | random, repeated in every block |
//! | 32 | base_offset u64 | offset of the segment's first frame |
//! | 40 | created_ns i64 | unix time |
//! | 48 | reserved, 12 bytes | |
//! | 60 | crc u32 | of bytes 0..60 |
//!
//! # Block
//!
//! | at | block header, 64 bytes | |
//! |---|---|---|
//! | 0 | magic, 4 bytes | `TMAB` |
//! | 4 | version u8 | 1 |
//! | 5 | kind u8 | 1 frames, 2 positions, 3 attestation, 4 hole |
//! | 6 | origin_count u16 | kind 1: entries of the origin table |
//! | 8 | body_len u32 | bytes behind this header, a multiple of 8 |
//! | 12 | frame_count u32 | kind 1: frames in the body, else 0 |
//! | 16 | segment_id u64 | of the segment header |
//! | 24 | position u64 | of this header in the file |
//! | 32 | first_offset u64 | offset of the first frame; kinds 2 to 4: of the next frame to come |
//! | 40 | synced_offset u64 | every frame below was on stable storage before this block was written |
//! | 48 | received_max_ns i64 | kind 1: latest `received_ns` of its frames |
//! | 56 | body_crc u32 | of the body |
//! | 60 | crc u32 | of bytes 0..60 |
//!
//! Behind damage a reader looks for the next valid block. `segment_id` and `position` ensure that the reader never
//! takes bytes of a payload for a block, even if the payload contains one.
//!
//! One commit is one block of kind 1. It is written only after the previous commit was synced. A block that cannot be
//! read is *damage* in acknowledged data if a later block has a `synced_offset` beyond it. Otherwise the block is
//! *torn*.
//!
//! ## Frames (1)
//!
//! `frames_len u32 | reserved u32 | frames, frames_len bytes | origin table | zeros to a multiple of 8`
//!
//! Further zeros may follow, as part of the body. They pad a large block so that the next block begins at a multiple of
//! 4,096, or of the alignment that the disk needs if that is larger. The next block can then be written without a copy
//! in memory.
//!
//! | at | frame, 32 bytes and the payload |
//! |---|---|
//! | 0 | payload_len u32 |
//! | 4 | origin u16, index into the origin table |
//! | 6 | priority u8 (0 Emergency, 1 Routine) |
//! | 7 | flags u8 |
//! | 8 | sequence u64 |
//! | 16 | ert_ns i64 |
//! | 24 | received_ns i64 |
//! | 32 | payload |
//!
//! | at | origin, 16 bytes and the station |
//! |---|---|
//! | 0 | source_id u32 |
//! | 4 | source_kind u8 (0 LiveUplink, 1 ArchivedReplay) |
//! | 5 | station_len u8 |
//! | 6 | reserved u16 |
//! | 8 | epoch u64 |
//! | 16 | station |
//!
//! ## Positions (2)
//!
//! The first blocks of a segment: the positions of all streams below its base offset.
//!
//! `total u32 | first u32 | count u32 | reserved u32 | count entries | zeros to a multiple of 8`
//!
//! The segment's positions are complete when the blocks' `first..first + count` cover `0..total`. An entry is an
//! origin as above, without its station, then `next u64[2]` (`[Emergency, Routine]`), then the station. A log
//! without streams has one block with `total` 0.
//!
//! The positions take precedence over the frames of earlier segments. Usually both agree. They differ after an operator
//! has lowered the epoch of a stream or had streams forgotten. For such an edit the archive begins a new segment at the
//! next offset. The positions of that segment have the lower epoch, or lack the forgotten streams. A newest segment
//! without frames is replaced under the same name. Nothing else in the log records the edit, so it needs no kind of
//! block of its own, and every reader of version 1 reads it correctly.
//!
//! The edit is lost only if the positions of the newest segment are damaged and the positions of earlier segments are
//! older than the edit. The operator must then request it again.
//!
//! ## Attestation (3)
//!
//! No body. Its `synced_offset` says that the last commit is durable.
//!
//! ## Hole (4)
//!
//! Recovery found damage in acknowledged data: `from_offset u64 | to_offset u64 (exclusive) | base_offset u64 of the
//! damaged segment | position u64 | bytes u64`. The damaged bytes stay where they are, with one exception: a newest
//! segment without any readable block goes to `lost/` as a whole. Its hole then covers all offsets that its frames can
//! have had.
//!
//! In a repaired log a hole block stands in the place of the missing frames: the block before it ends at `from_offset`.

mod block_frames;
mod bytes;
mod crc;
mod encoder;
mod frame_range;
mod frames;
mod headers;
mod hole;
pub(crate) mod names;
mod positions;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "test-support"))]
pub use block_frames::encoded;
pub use block_frames::{BlockFrames, Durable, KeptFrames, Received};
pub(super) use bytes::Cursor;
pub(super) use crc::is_intact;
pub(super) use encoder::{BlockEncoder, encoded_len};
pub(super) use frame_range::{EXTENT_BYTES_MAX, FrameRange, FrameRanges};
pub(super) use frames::{FrameIter, OriginHeader, RecordHeader, push_origin};
pub(super) use headers::{BlockHeader, BlockKind, HeaderError, SegmentHeader};
pub(super) use hole::HoleRecord;
pub use positions::StreamPosition;
pub(super) use positions::{PositionsPart, position_blocks, position_bytes_max};

use frame::{FrameRun, Origin, Station};

/// The version that this build writes. It reads no other version.
pub(super) const VERSION: u16 = 1;
/// Bytes of the header of a segment.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;
/// Bytes of the header of a block. An attestation consists of the header alone.
pub(super) const BLOCK_HEADER_BYTES: u64 = 64;
/// Blocks start at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;
/// All offsets of frames are below this limit. JSON numbers are exact up to here, and sums of offsets cannot overflow.
pub(super) const OFFSET_MAX: u64 = 1 << 53;
/// Largest body that a reader accepts, in bytes. It limits memory and is far above what is written.
pub(super) const BODY_BYTES_MAX: u64 = 32 << 20;

/// Bytes before the first frame in a body of frames.
pub(super) const FRAMES_PREFIX_BYTES: usize = 8;
/// Bytes of a frame without its payload: the smallest size of a frame.
pub(super) const FRAME_HEADER_BYTES: usize = 32;
const ORIGIN_HEADER_BYTES: usize = 16;
const POSITIONS_PREFIX_BYTES: usize = 16;

/// Most bytes of the log that a frame of `origin` with `payload_bytes` can take: alone in a block, with an attestation
/// of its own.
///
/// The fan-in sums this over every frame it passes and compares the sum with
/// [`Archive::routine_limit`](super::Archive::routine_limit).
///
/// Frames that share a block take less. The difference covers the padding at the end of the block: a padded block never
/// exceeds the sum over its frames.
#[must_use]
pub fn log_bytes_max(origin: &Origin, payload_bytes: usize) -> u64 {
    log_bytes_of(payload_bytes, origin.stream.station.as_str().len())
}

/// The sum of [`log_bytes_max`] over all frames of `run`, whose payloads have `payload_bytes` in total.
pub(super) fn run_log_bytes_max(run: &FrameRun, payload_bytes: usize) -> u64 {
    run.len() as u64 * log_bytes_max(run.origin(), 0) + payload_bytes as u64
}

/// The largest [`log_bytes_max`] of a frame with at most `payload_bytes` of payload.
pub(super) fn frame_log_bytes_max(payload_bytes: usize) -> u64 {
    log_bytes_of(payload_bytes, Station::BYTES_MAX)
}

const fn log_bytes_of(payload: usize, station: usize) -> u64 {
    let body = FRAMES_PREFIX_BYTES + FRAME_HEADER_BYTES + payload + ORIGIN_HEADER_BYTES + station;
    2 * BLOCK_HEADER_BYTES + body as u64 + ALIGNMENT
}

/// `length` rounded up to where the next block may start.
pub(super) const fn aligned(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}
