//! Encodes the body of a block of frames, without an allocation per frame.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::block_frames::{BlockFrames, Durable, Received};
use super::crc::combine;
use super::frames::push_origin;
use super::{
    ALIGNMENT, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, EXTENT_BYTES_MAX, FRAME_HEADER_BYTES,
    FRAMES_PREFIX_BYTES, FrameRange, ORIGIN_HEADER_BYTES, run_log_bytes_max,
};
use crate::aligned::GrowingBuffer;
use frame::{FrameMeta, FrameRun, Lanes, Origin};

/// Most bytes that `run`, whose payloads have `payload_bytes` in total, takes in a block. The header and the padding of
/// the block do not count.
pub(crate) fn encoded_len(run: &FrameRun, payload_bytes: usize) -> u64 {
    let station = run.origin().stream.station.as_str().len();
    (run.len() * FRAME_HEADER_BYTES + payload_bytes + ORIGIN_HEADER_BYTES + station) as u64
}

/// Builds one block of frames at a time in a buffer that it reuses. The order of calls is [`Self::push`],
/// [`Self::finish`], [`Self::seal`], and [`Self::clear`] before the next block.
#[derive(Default)]
pub(crate) struct BlockEncoder {
    /// Header and body; empty before the first frame. It starts at a page, so that it can be written without a copy.
    buffer: GrowingBuffer,
    /// The origins of the frames. An index into this table is the number of an origin.
    origins: OriginTable,
    /// The frame ranges so far, see [`FrameRange`]. The last one may still grow.
    ranges: Vec<FrameRange>,
    /// When each run was read.
    received: Vec<Received>,
    /// Where the frames end; set once the block is finished.
    frames_end: usize,
    /// Where the body ends without padding; set once the block is finished.
    content_end: usize,
    /// The checksum of the body up to `content_end`; set once the block is finished.
    content_crc: u32,
    /// Frames so far.
    frame_count: u32,
    /// The latest `received_ns` of the frames, in unix nanoseconds.
    received_max_ns: i64,
    /// Sum of [`log_bytes_max`](super::log_bytes_max) over the frames.
    log_bytes_max: u64,
    /// The checksum of the frames and, once finished, of the table behind them.
    frames_crc: RunningCrc,
    /// The checksum of the whole body, padding included; set by [`Self::finish`] and [`Self::pad`].
    body_crc: u32,
}

/// Bytes that are encoded before their checksum is computed. They are then still in the cache of the processor.
const CRC_BYTES: usize = 32 << 10;
/// Sizes in bytes of the frame ranges that get a checksum of their own. The index uses these checksums, and the
/// checksum of the block is combined from them. For a shorter range, combining takes longer than reading the bytes
/// twice.
const RANGE_CRC_BYTES: RangeInclusive<usize> = 8 << 10..=EXTENT_BYTES_MAX;
/// Position of the first frame in a block.
const FRAMES_AT: usize = BLOCK_HEADER_BYTES as usize + FRAMES_PREFIX_BYTES;

impl BlockEncoder {
    /// Makes room for `bytes` of frames and origins, so that the block stays at a page. A block that does not start at
    /// a page is written with a copy.
    pub(crate) fn reserve(&mut self, bytes: u64) {
        self.buffer.reserve(FRAMES_AT + bytes as usize);
    }

    /// Adds the frames of `runs` to the block.
    pub(crate) fn push(&mut self, runs: &[FrameRun]) {
        if self.buffer.is_empty() {
            self.buffer.resize(FRAMES_AT);
            self.frames_crc = RunningCrc { crc: 0, at: FRAMES_AT };
            self.received_max_ns = i64::MIN;
        }
        for run in runs {
            self.push_run(run);
            // The last range may still grow. It is left out while it can have a checksum of its own.
            let open_bytes = self.ranges.last().map_or(0, |last| last.bytes as usize);
            let open_bytes = if open_bytes > EXTENT_BYTES_MAX { 0 } else { open_bytes };
            self.frames_crc.follow(&self.buffer[..self.buffer.len() - open_bytes], CRC_BYTES);
        }
    }

    /// Ends the block except for its header. [`Self::seal`] writes the header when the position is known.
    pub(crate) fn finish(&mut self) {
        self.frames_end = self.buffer.len();
        self.end_range(self.frames_end);
        debug_assert_eq!(
            self.ranges.iter().map(|range| range.frames).sum::<u32>(),
            self.frame_count,
            "the frame ranges do not cover the frames of the block"
        );
        debug_assert_eq!(
            self.ranges.iter().map(|range| range.bytes as usize).sum::<usize>(),
            self.frames_end - FRAMES_AT,
            "the frame ranges do not cover the bytes of the frames"
        );
        let frames_len = (self.frames_end - FRAMES_AT) as u32;
        self.buffer[FRAMES_AT - FRAMES_PREFIX_BYTES..FRAMES_AT - 4]
            .copy_from_slice(&frames_len.to_le_bytes());
        let mut table = Vec::new();
        for origin in &self.origins.origins {
            push_origin(&mut table, &origin.stream, origin.epoch);
            table.extend_from_slice(origin.stream.station.as_str().as_bytes());
        }
        self.buffer.reserve(table.len());
        self.buffer.push(&table);
        let padded = self.buffer.len().next_multiple_of(ALIGNMENT as usize);
        self.buffer.resize(padded);
        self.frames_crc.follow(&self.buffer, 1);
        // The first bytes of the body are known only here.
        let prefix_crc = crc32c::crc32c(&self.buffer[BLOCK_HEADER_BYTES as usize..FRAMES_AT]);
        self.content_crc = combine(prefix_crc, self.frames_crc.crc, padded - FRAMES_AT);
        self.content_end = padded;
        self.body_crc = self.content_crc;
    }

    /// Pads the finished block with zeros to `len` bytes, header included. `len` must be a multiple of 8, and at least
    /// the length without padding.
    pub(crate) fn pad(&mut self, len: u64) {
        assert!(
            len >= self.content_end as u64,
            "{len} bytes are too few for a block of {}",
            self.content_end
        );
        assert!(len.is_multiple_of(ALIGNMENT), "a block of {len} bytes is not padded");
        self.buffer.resize(self.content_end);
        self.buffer.resize(len as usize);
        self.body_crc = crc32c::crc32c_append(self.content_crc, &self.buffer[self.content_end..]);
    }

    /// Empties the block and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.buffer.resize(0);
        self.origins.clear();
        self.ranges.clear();
        self.received.clear();
        self.frame_count = 0;
        self.log_bytes_max = 0;
    }

    fn push_run(&mut self, run: &FrameRun) {
        let Some(last) = run.metas().last() else { return };
        let origin = self.origins.index(run.origin());
        let lane = &mut self.origins.lanes[usize::from(origin)][run.priority()];
        lane.frames += run.len() as u64;
        lane.next = lane.next.max(last.sequence.saturating_add(1));
        lane.received_min_ns = lane.received_min_ns.min(run.received_ns());
        let mut header = [0; FRAME_HEADER_BYTES];
        header[4..6].copy_from_slice(&origin.to_le_bytes());
        header[6] = run.priority() as u8;
        let before = self.buffer.len();
        for meta in run.metas() {
            header[0..4].copy_from_slice(&meta.payload_len.to_le_bytes());
            header[7] = meta.flags.0;
            header[8..16].copy_from_slice(&meta.sequence.to_le_bytes());
            header[16..24].copy_from_slice(&meta.ert_ns.to_le_bytes());
            header[24..32].copy_from_slice(&run.received_ns_of(meta).to_le_bytes());
            self.buffer.push(&header);
            self.buffer.push(run.payload(meta));
        }
        let bytes = self.buffer.len() - before;
        let (received_ns, received_max_ns) = (run.received_ns(), run.received_ns_of(last));
        self.received.push(Received { received_ns, frames: run.len() as u32, priority: run.priority() });
        self.note_ranges(run, origin, before);
        let payload_bytes = bytes - run.len() * FRAME_HEADER_BYTES;
        self.log_bytes_max += run_log_bytes_max(run, payload_bytes);
        self.frame_count += run.len() as u32;
        self.received_max_ns = self.received_max_ns.max(received_max_ns);
    }

    /// Records the ranges of the frames of `run`, whose bytes lie from `at` to the end of the buffer. A range ends
    /// where an extent of the index ends, so that the index needs no checksum of its own.
    fn note_ranges(&mut self, run: &FrameRun, origin: u16, mut at: usize) {
        let mut rest = run.metas();
        while let Some(first) = rest.first() {
            let bytes_left = self.buffer.len() - at;
            let open = self.ranges.last().filter(|last| last.is_of(origin, run.priority()));
            let room = open.map_or(0, |open| EXTENT_BYTES_MAX.saturating_sub(open.bytes as usize));
            let (mut frames, mut bytes) = first_frames(rest, bytes_left, room);
            let is_joined = frames > 0;
            if !is_joined {
                // The first frame of an extent may have any length.
                let room = EXTENT_BYTES_MAX.max(FRAME_HEADER_BYTES + first.payload_len as usize);
                (frames, bytes) = first_frames(rest, bytes_left, room);
            }
            let range = FrameRange {
                origin,
                priority: run.priority(),
                frames: frames as u32,
                bytes: bytes as u32,
                received_min_ns: run.received_ns_of(first),
                received_max_ns: run.received_ns_of(&rest[frames - 1]),
                crc: None,
            };
            if is_joined && let Some(last) = self.ranges.last_mut() {
                last.join(&range);
            } else {
                self.end_range(at);
                self.ranges.push(range);
            }
            (rest, at) = (&rest[frames..], at + bytes);
        }
    }

    /// Computes the checksum of the last range, which ends at `end`.
    fn end_range(&mut self, end: usize) {
        let Some(last) = self.ranges.last_mut() else { return };
        let at = end - last.bytes as usize;
        if RANGE_CRC_BYTES.contains(&(end - at)) {
            self.frames_crc.follow(&self.buffer[..at], 0);
            last.crc = NonZeroU32::new(self.frames_crc.append(&self.buffer[at..end]));
        }
    }

    /// The body of the finished block.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer[BLOCK_HEADER_BYTES as usize..]
    }

    /// The frames of the finished block.
    pub(crate) fn frames(&self) -> BlockFrames<'_> {
        BlockFrames::new(&self.buffer[FRAMES_AT..self.frames_end], &self.origins.origins)
    }

    /// When the frames were read, one entry per run.
    pub(crate) fn received(&self) -> &[Received] {
        &self.received
    }

    /// The origins of its frames, by number.
    pub(crate) fn origins(&self) -> &[Arc<Origin>] {
        &self.origins.origins
    }

    /// The frame ranges of the body.
    pub(crate) fn ranges(&self) -> &[FrameRange] {
        &self.ranges
    }

    /// Sum of [`log_bytes_max`](super::log_bytes_max) over the frames of the block, as the gate counts them.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        self.log_bytes_max
    }

    /// Bytes of the finished block with its header and without padding.
    pub(crate) fn content_len(&self) -> u64 {
        self.content_end as u64
    }

    /// Bytes of the finished block, header and padding included.
    pub(crate) fn len(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Frames in the encoded block.
    pub(crate) fn frame_count(&self) -> u64 {
        u64::from(self.frame_count)
    }

    /// Writes the header into the block. Returns the whole block, ready to be written at `position`.
    pub(crate) fn seal(
        &mut self,
        segment_id: u64,
        position: u64,
        first_offset: u64,
        synced_offset: u64,
    ) -> &[u8] {
        let body = &self.buffer[BLOCK_HEADER_BYTES as usize..];
        assert!(self.buffer.len() >= self.content_end, "the block was changed after it was finished");
        let header = BlockHeader {
            kind: BlockKind::Frames,
            origin_count: self.origins.origins.len() as u16,
            body_len: body.len() as u32,
            frame_count: self.frame_count,
            segment_id,
            position,
            first_offset,
            synced_offset,
            received_max_ns: self.received_max_ns,
            body_crc: self.body_crc,
        };
        header.assert_valid();
        debug_assert_eq!(
            crc32c::crc32c(body),
            self.body_crc,
            "the checksum was not combined from the right parts"
        );
        self.buffer[..BLOCK_HEADER_BYTES as usize].copy_from_slice(&header.encode());
        &self.buffer
    }

    /// Fills `into` with what the encoded block makes durable: one entry for each origin and lane in it.
    pub(crate) fn durable(&self, into: &mut Vec<Durable>) {
        into.clear();
        for (origin, lanes) in self.origins.origins.iter().zip(&self.origins.lanes) {
            for (priority, lane) in lanes.iter() {
                if lane.frames > 0 {
                    into.push(Durable {
                        origin: Arc::clone(origin),
                        priority,
                        next: lane.next,
                        frames: lane.frames,
                        received_min_ns: lane.received_min_ns,
                    });
                }
            }
        }
    }
}

/// How many of the first frames of `metas`, which have `bytes_left` bytes in all, fit into `room` bytes, and their
/// bytes.
fn first_frames(metas: &[FrameMeta], bytes_left: usize, room: usize) -> (usize, usize) {
    if bytes_left <= room {
        return (metas.len(), bytes_left);
    }
    let mut bytes = 0;
    for (frames, meta) in metas.iter().enumerate() {
        let next = bytes + FRAME_HEADER_BYTES + meta.payload_len as usize;
        if next > room {
            return (frames, bytes);
        }
        bytes = next;
    }
    (metas.len(), bytes)
}

/// A checksum that follows a buffer as it grows.
#[derive(Default)]
struct RunningCrc {
    /// The checksum of the bytes before `at`.
    crc: u32,
    /// End of the bytes that the checksum covers.
    at: usize,
}

impl RunningCrc {
    /// Adds the new bytes of `buffer` if there are at least `bytes_min`.
    fn follow(&mut self, buffer: &[u8], bytes_min: usize) {
        if buffer.len() - self.at >= bytes_min {
            self.crc = crc32c::crc32c_append(self.crc, &buffer[self.at..]);
            self.at = buffer.len();
        }
    }

    /// Adds `bytes`, which follow directly, and returns their own checksum.
    fn append(&mut self, bytes: &[u8]) -> u32 {
        let crc = crc32c::crc32c(bytes);
        self.crc = combine(self.crc, crc, bytes.len());
        self.at += bytes.len();
        crc
    }
}

/// What the block holds of one origin and lane.
#[derive(Clone, Copy)]
struct Lane {
    /// One past the highest sequence; 0 without a frame.
    next: u64,
    /// Number of frames.
    frames: u64,
    /// When the first of them was read, in unix nanoseconds.
    received_min_ns: i64,
}

impl Lane {
    const EMPTY: Self = Self { next: 0, frames: 0, received_min_ns: i64::MAX };
}

/// The origins of one block. Frames usually share the `Arc` of their stream, so its address usually finds the origin.
struct OriginTable {
    /// The origins by number.
    origins: Vec<Arc<Origin>>,
    /// What the block holds of each origin, by the same number.
    lanes: Vec<Lanes<Lane>>,
    /// The number of each origin.
    by_value: HashMap<Arc<Origin>, u16>,
    /// The number of the origin whose `Arc` has this address, by a hash of the address. A newer origin replaces an
    /// older one; `by_value` still knows both.
    by_address: [(usize, u16); Self::ADDRESSES],
}

impl Default for OriginTable {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            lanes: Vec::new(),
            by_value: HashMap::new(),
            by_address: [(0, 0); Self::ADDRESSES],
        }
    }
}

impl OriginTable {
    const ADDRESSES: usize = 256;

    fn clear(&mut self) {
        self.origins.clear();
        self.lanes.clear();
        self.by_value.clear();
        // An address is valid only while the block holds the `Arc`.
        self.by_address.fill((0, 0));
    }

    fn index(&mut self, origin: &Arc<Origin>) -> u16 {
        let address = Arc::as_ptr(origin) as usize;
        let slot = (address >> 4) % Self::ADDRESSES;
        let (known, mut index) = self.by_address[slot];
        if known != address {
            index = self.find_or_insert(origin);
            self.by_address[slot] = (address, index);
        }
        index
    }

    fn find_or_insert(&mut self, origin: &Arc<Origin>) -> u16 {
        if let Some(index) = self.by_value.get(origin) {
            return *index;
        }
        let index = u16::try_from(self.origins.len()).expect("a block holds fewer than 65,536 origins");
        self.origins.push(Arc::clone(origin));
        self.lanes.push(Lanes::both(Lane::EMPTY));
        self.by_value.insert(Arc::clone(origin), index);
        index
    }
}
